"""``lorry doctor``: what a cluster lacks for runs and for serving, a row for each check, with what corrects it."""
