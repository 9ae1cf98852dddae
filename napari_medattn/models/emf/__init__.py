"""EMF-former, a reconstruction: vector attention in serial heads."""
