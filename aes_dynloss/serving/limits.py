"""Limits of a request: how much one client may ask for, and how long it may take to ask."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from aes_dynloss.configfile import ConfigModel


class Limits(ConfigModel):
    """Bounds of a server, which keep its memory and everybody's wait finite."""

    batch_size: int = Field(default=64, ge=1, description="Essays scored in one forward call, at most.")
    max_essays: int = Field(default=256, ge=1, description="Essays of one request, at most.")
    max_characters: int = Field(default=100_000, ge=1, description="Characters of one essay, at most.")
    max_explained: int = Field(default=20, ge=1, description="Essays of one request that are to be explained, at most.")
    max_explained_characters: int = Field(
        default=20_000, ge=1, description="Characters of an essay that is to be explained, at most."
    )
    max_body: int = Field(default=2 * 2**20, ge=64, description="Bytes of one request's body, at most.")
    max_table_rows: int = Field(default=5_000, ge=1, description="Essays of one table, at most.")
    max_table_body: int = Field(default=16 * 2**20, ge=64, description="Bytes of one table, at most.")
    max_tables: int = Field(default=4, ge=1, description="Tables that are read and scored at once, at most.")
    max_queue: int = Field(default=1024, ge=1, description="Essays that may wait; more are refused by 503.")
    client_seconds: float = Field(
        default=30.0, gt=0, description="A body must have arrived by then, and a table be read in as long again."
    )
    header_seconds: float = Field(default=10.0, gt=0, description="A request's head must have arrived by then.")
    connections: int = Field(default=512, ge=2, description="Connections that are open at once, at most.")

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.max_queue < self.max_essays:
            raise ValueError(
                f"max_queue is {self.max_queue}, below max_essays, {self.max_essays}: a request of "
                "so many essays could never be scored. Raise the one or lower the other"
            )
        return self
