"""The page itself, in Gradio: its components, the handlers of their events, its script and style."""
