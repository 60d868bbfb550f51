"""The keeper: makes sure that all accepted work ends."""

from app.loops.keeper.keeper import Keeper
from app.loops.keeper.recovery import recover_once

__all__ = ["Keeper", "recover_once"]
