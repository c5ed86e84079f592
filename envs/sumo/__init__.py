"""Everything that speaks to SUMO: simulations, road networks and files."""
