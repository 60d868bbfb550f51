"""The keeper: sees to it that all work that was accepted comes to an end."""

from app.loops.keeper.keeper import Keeper
from app.loops.keeper.recovery import recover_once

__all__ = ["Keeper", "recover_once"]
