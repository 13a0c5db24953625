"""The page's HTTP side: identity, proxies, headers, server-sent events, shutdown."""
