from components.chat.command import chat
from components.runtime.command_line import run_command

run_command(chat)
