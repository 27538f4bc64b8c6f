"""When a live answer waits for words, and when it goes out without them: near answers are worth more than whole ones.

Words are recognised again in every window, which takes longer than all else. Where they would make an answer late it is
made without them and says so; after that the next windows are not asked for words at all, more of them each time that
it happens again, for a recognition that has begun cannot be taken back.
"""

from __future__ import annotations

#: Windows without words after words came too late; twice as many each time that it happens again, up to the most.
FEWEST, MOST = 2, 32
#: Weight of the newest measurement.
NEWEST = 0.3


class Pace:
    """Of one session. `limit`: seconds from a window's end within which its answer shall come."""

    def __init__(self, limit: float):
        self.limit = limit
        #: Seconds that an answer takes without words, and with them, smoothed; what is not known yet is not feared.
        self.without, self.whole = 0.1 * limit, 0.0
        self._rest, self._next = 0, FEWEST

    def patience(self, waited: float) -> float:
        """Seconds that an answer with words may take for a window that has waited for `waited` already; 0: it is to be
        asked for without them."""
        if self._rest:
            self._rest -= 1
            return 0.0
        left = self.limit - waited - self.without
        return left if left > self.whole else 0.0

    def answered(self, seconds: float, words: bool) -> None:
        """An answer was there after so many seconds."""
        if words:
            self.whole += NEWEST * (seconds - self.whole)
            self._next = FEWEST
        else:
            self.without += NEWEST * (seconds - self.without)

    def missed(self) -> None:
        """Words did not come in time."""
        self._rest, self._next = self._next, min(2 * self._next, MOST)
