"""The server's application in this process, without a socket."""

from __future__ import annotations

import asyncio

from served import JSON, Answer, call

from aes_dynloss.serving.app import create_app
from aes_dynloss.serving.guards import LOOPBACK, Guarded
from aes_dynloss.serving.limits import Limits
from aes_dynloss.serving.service import EssayService

# A word that must turn up in no log.
SECRET = "zebrafinch"
WORDS = "The council should mend the bridge because all of us walk to school by the river"


class Served:
    """An application that is asked one thing after the other, or several at once."""

    def __init__(self, scorer, name="model", **limits) -> None:
        self.service = EssayService(scorer, name, 0.9, Limits(**limits))

    def together(self, *calls) -> list[Answer]:
        async def main():
            app = create_app(self.service)
            async with app.router.lifespan_context(app):
                guarded = Guarded(app, app.state.traffic, LOOPBACK, app.state.metrics.request)
                return await asyncio.gather(*(call(guarded, *words) for words in calls))

        return asyncio.run(main())

    def ask(self, *words) -> Answer:
        return self.together(words)[0]

    def post(self, body, headers=JSON) -> Answer:
        return self.ask("POST", "/score", body, headers)
