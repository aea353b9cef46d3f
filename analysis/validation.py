"""What a record must look like: refused by the name of its file and field."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mage.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], content: bytes, place: str) -> Model:
    """`content`, which is JSON, as `model`. Raises UserError with `place` and the first field that is wrong."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "(the whole text)"
        raise UserError(f"{place}: field {field}: {first['msg']}") from error
