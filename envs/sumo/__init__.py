"""All that speaks to SUMO: the simulation, networks and files for it."""
