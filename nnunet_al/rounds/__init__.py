"""Rounds: the stages of a round, their order, and one call or one phase of it."""
