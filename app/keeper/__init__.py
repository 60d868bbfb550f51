"""The keeper: sees to it that all work that was accepted comes to an end."""

from app.keeper.keeper import Keeper
from app.keeper.recovery import recover_once

__all__ = ["Keeper", "recover_once"]
