"""The page's HTTP side, without Gradio: identity, proxies, headers, server-sent events, shutdown."""
