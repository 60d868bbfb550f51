"""Impoliteness by the ways in which people are polite or rude to one another.

The strategies are those of the literature on politeness: gratitude, apology, deference, greeting,
please, indirect requests, hedges on one side; commands, accusing "you", rhetorical questions,
insults, threats, sarcasm, shouting on the other (Brown and Levinson 1987; Danescu-Niculescu-Mizil
et al. 2013, arXiv 1306.6078; Culpeper 1996). The lists were written down from there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from models_store.schemas.scorers import ScorerInfo
from workers.evaluation.scorers.protocol import Training
from workers.evaluation.statistics import Floats

INFO = ScorerInfo(
    name="politeness-markers",
    measures="impoliteness, by lists of polite and rude ways to put things",
    licence="Apache-2.0 (part of Scalpel)",
    trained_on="nothing: lists of words",
    # A text without any marker has 0.5 and is not called rude.
    threshold=0.55,
)

_FLAGS = re.VERBOSE | re.IGNORECASE
_POLITE = re.compile(
    r"""
      \b(?:thanks?(?:\ you)?|thankful|thx|cheers|grateful(?:ly)?|gratitude|appreciat\w+)\b
    | \b(?:sorry|apolog\w+|forgive\ me|pardon\ me|excuse\ me|my\ (?:bad|mistake|fault)
        |hope\ you\ don't\ mind|don't\ mean\ to|didn't\ mean\ to)\b
    | \b(?:please|kindly|if\ you\ (?:like|wish|want|have\ (?:time|a\ (?:moment|minute|chance)))
        |if\ (?:possible|that's\ ok(?:ay)?|it's\ not\ too\ much)|when\ you\ (?:get|have)\ a)\b
    | \b(?:(?:could|would|can|might|may)\ (?:you|i|we|someone|anyone|somebody|it\ be|there\ be)
        |would\ (?:like|appreciate|love|be\ (?:willing|able|happy|interested|great|nice))
        |(?:do|would)\ you\ mind|be\ so\ kind|(?:was|am|i'm|just)\ wondering|i\ wonder(?:ed)?
        |help\ (?:me|us|out)|any\ (?:ideas?|help|thoughts|suggestions?|advice|chance)
        |let\ me\ know|feel\ free|what\ do\ you\ think|your\ (?:thoughts|opinion|advice|help))\b
    | \b(?:hi|hello|hey|dear|greetings|good\ (?:morning|afternoon|evening|day)|welcome
        |best\ (?:wishes|regards)|kind\ regards|regards|happy\ to|glad\ to|pleased\ to)\b
    | \b(?:(?:good|great|nice|fine|excellent|amazing|fantastic|wonderful|impressive)
            \ (?:work|job|article|point|idea|catch|question|effort|find|one)
        |well\ done|congratulations|congrats|kudos|impressed|helpful|interesting
        |you're\ right|you\ are\ right|good\ luck|keep\ up)\b
    | \b(?:perhaps|maybe|possibly|i\ (?:think|believe|guess|suppose|assume|feel)|it\ seems
        |seems\ to|appears?\ to|not\ (?:entirely\ )?sure|unsure|might\ be|may\ be
        |by\ the\ way|btw|a\ (?:bit|little)|sort\ of|kind\ of|as\ far\ as\ i)\b
    | (?<![:/\w])[:;]-?[)Dp](?!\w)                  # smileys
    """,
    _FLAGS,
)
_RUDE = re.compile(
    r"""
      \b(?:stop|quit|cease|get\ (?:lost|over|a\ life|out|real|off)|go\ away|grow\ up|shut\ up
        |leave\ (?:me|it|us)\ alone|don't\ you\ (?:dare|ever|have)|mind\ your\ own|back\ off
        |how\ dare|listen\ up|wake\ up|give\ me\ a\ break|spare\ me|knock\ it\ off|cut\ it\ out
        |keep\ your|do\ your\ (?:own|homework)|try\ reading|learn\ (?:to|how)|look\ it\ up)\b
    | \b(?:what's|what\ is)\ (?:wrong\ with|your\ (?:problem|point|excuse|deal|issue))\b
    | \b(?:who|what|why|how|where)\ (?:the\ (?:hell|heck|fuck)|on\ earth|in\ the\ world)\b
    | \bwho\ (?:are\ you|do\ you\ think|made\ you|gave\ you|cares|asked)\b
    | \bwhy\ (?:do|did|are|would|should|can't|don't|didn't|won't|aren't|must)\ (?:you|i)\b
    | \b(?:are|were|can|can't|do|don't|did|didn't|have|haven't|aren't|is\ it\ that)\ you\ (?:even
        |really|actually|just|seriously|blind|kidding|joking|serious|crazy|insane|stupid|deaf
        |not|incapable|understand|get\ it|ever|always|still|so|too|trying\ to|read|know)\b
    | \b(?:so|and|but|well|oh|then)\ (?:now\ )?you(?:'re|\ are|\ have|\ think|\ just|\ want)?\b
    | \byou(?:'re|\ are)?\ (?:have\ no|clearly|obviously|seem\ to|keep|always|never|people|guys
        |can't|cannot|don't|didn't|won't|should\ know|need\ to|must|better|had\ better|just
        |call\ (?:that|this|yourself)|refuse|fail(?:ed)?|ignore[ds]?|claim(?:ed)?|lied|wrong
        |not\ (?:even|the|a|an|going)|simply|really|still|think\ you|want\ to|an?\ )(?=\W|$)
    | \byour\ (?:own|bias\w*|agenda|ignorance|opinion\ is|problem|lies|nonsense|attitude
        |stupid\w*|so-called|behaviou?r|little|precious|personal)\b
    | \b(?:seriously|honestly|really|actually|obviously|clearly|apparently|in\ fact|of\ course
        |the\ fact\ (?:is|that)|period|simple\ as|bother(?:ed|ing)?|care\ to\ explain|explain
        |excuse|justify|enough|so\ what|big\ deal|whatever|yeah\ right|nice\ try|as\ usual
        |is\ that\ (?:clear|so)|got\ it|understood|or\ else|need\ i|since\ when|last\ time
        |good\ for\ you|wow|duh|huh|lol|congratulations\ on|what\ part\ of|how\ (?:many|long)
        |how\ is\ (?:it|that|this)|how\ can)\b
    | \b(?:nonsense|rubbish|garbage|trash|junk|crap(?:py)?|bull(?:shit|crap)?|bs|shit\w*|fuck\w*
        |damn(?:ed)?|hell|ass|asshole|arse|bitch\w*|bastard|dick|piss\w*|suck[s]?|sucked|screw
        |idiot\w*|moron\w*|fool\w*|stupid\w*|dumb\w*|imbecile|jerk|clown|loser|liar|lying|lies
        |troll\w*|hypocri\w*|coward\w*|ignoran\w*|arrogan\w*|incompeten\w*|pathetic|ridiculous
        |absurd|laughable|childish|lazy|clueless|delusional|insane|crazy|paranoi\w*|disgust\w*
        |shame\w*|disgrace\w*|offensive|rude|insult\w*|harass\w*|bully\w*|stalk\w*|threat\w*
        |hate|sick\ of|tired\ of|waste|useless|worthless|pointless|terrible|horrible|awful|worst
        |biased?|propaganda|accus\w*|abus\w*|blatant\w*|unacceptable|refus\w*|violat\w*|wrong|fail\w*)\b
    | \?\s*\?+ | !\s*!+ | \?! | !\?                 # marks of anger
    | (?<!\w)['*_]{2,}\w[^'*_]{0,30}['*_]{2,}       # a word that is leaned on
    | "\w+"                                         # a word held up with tongs
    """,
    _FLAGS,
)
_SHOUT = re.compile(r"\b[A-Z]{4,}\b")
"""Words in capitals; with regard to case."""
_START = re.compile(
    r"""^\W*(?:you|your|so|and|but|why|what|who|how\ (?:is|can|do|dare|many)|don't|do\ not|stop|no
        |oh|please\ (?:do\ not|don't|stop)|is\ (?:this|that|it)|did|have\ you|are\ you)\b""",
    _FLAGS,
)
"""A text that begins with the other person, a demand or a challenge."""


class PolitenessMarkers:
    """`(1 + rude) / (2 + rude + polite)`: 0.5 without any marker."""

    def score(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        return np.array([_rudeness(text) for text in texts], dtype=np.float64)


def _rudeness(text: str) -> float:
    plain = text.replace("’", "'").strip()
    rude = len(_RUDE.findall(plain)) + bool(_SHOUT.search(plain)) + bool(_START.match(plain))
    polite = len(_POLITE.findall(plain))
    return (1 + rude) / (2 + rude + polite)


def make(training: Training) -> PolitenessMarkers:
    return PolitenessMarkers()
