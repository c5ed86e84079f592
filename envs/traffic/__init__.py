"""Scenarios on roads, driven by SUMO; importing them registers those that come with the package."""

from envs.traffic import figure_eight as figure_eight
from envs.traffic import platoon as platoon
from envs.traffic import ring as ring
from envs.traffic import sumo_network as sumo_network
