"""``lorry gc``: what is in the places that Lorry fills, what of it is still needed, and the deletion of the rest."""
