"""Serving on a cluster: pin an overlay, apply it, follow its roll-outs, ask its servers, bring the last model back."""
