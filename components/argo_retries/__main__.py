from components.argo_retries.command import argo_retries
from components.runtime.command_line import run_command

run_command(argo_retries)
