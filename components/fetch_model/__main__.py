from components.command_line import run_command
from components.fetch_model.command import fetch_model

run_command(fetch_model)
