"""OpenAI's protocol, as far as this server implements it: what a request may contain, and the shape of an error.

Fields are allow-listed: an unknown one is an error. What cannot change an answer is accepted and ignored. Parameters of
the engine cannot be set; ``top_k``, ``min_p``, ``repetition_penalty`` and ``chat_template_kwargs`` are extensions that
other open servers have under these names.
"""
