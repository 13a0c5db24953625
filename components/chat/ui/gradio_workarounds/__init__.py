"""Everything that depends on how Gradio 6.31 works inside, beyond its documented interface.

pyproject.toml pins Gradio to ``>=6.31,<6.32`` because of these modules; each function names the upstream issue that it
is for, if one is known. To update Gradio: check each of them, then run ``tests/browser``.

- ``components``: values that a component rejects, and the queue's polling.
- ``http``: uploads, redirects, and the internals of the mounted application.
- ``markdown_script``: text shown as it was written.
- ``messages``: a chatbot's messages in the form that Gradio's own script uses.
- ``page_root``: the page's address behind a proxy.
- ``show_errors``: errors of events that do not queue.
- ``state_css``: figures and buttons that change without Gradio rebuilding a component.
"""
