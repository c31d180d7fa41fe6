"""Pictures of a campaign: how Dice grew with annotation, and what was asked for."""
