from components.fetch_model.command import fetch_model
from components.runtime.command_line import run_command

run_command(fetch_model)
