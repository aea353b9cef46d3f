"""Training answers from the base model itself: it is interviewed about passages, and what it says is kept in a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from mage.errors import UserError
from mage.models.checkpoint import LanguageModel
from mage.training.sampling import sample
from tasks.lessons.interviews import Interviews, degenerate


def interview_model(
    model: LanguageModel,
    interviews: Interviews,
    path: Path,
    count: int,
    *,
    questions: int = 5,
    max_new: int = 96,
    temperature: float = 0.7,
    top_p: float = 0.95,
    go_on: Callable[[], bool] = lambda: True,
) -> int:
    """Append the answers of the interviews up to `count` to `path`; return how many answers were added.

    Every other answer is the likeliest one, token by token, and so are all about needles, which have one right answer;
    the others are drawn at `temperature`. Answers that run in circles are left out. A line is `{interview, kind,
    context, prompt, answer, finished}`, tokens as ids. A file that is there goes on with its last interview,
    asked again because it may have been cut off; its answers are the same. go_on: asked before each interview. Raises
    `UserError` that names a damaged line of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    first, added = _next(path, count), 0
    with path.open("a", encoding="utf-8") as file:
        for index in range(first, count):
            if not go_on():
                break
            interview = interviews.interview(index, questions)
            heat = [temperature * (place % 2 and interview.kind != "needle") for place in range(len(interview.prompts))]
            generator = torch.Generator(model.device).manual_seed(index)
            answers = sample(
                model.body, interview.context, interview.prompts, max_new, model.spec.stop_ids, heat, top_p, generator
            )
            lines = [
                json.dumps(
                    {
                        "interview": index,
                        "kind": interview.kind,
                        "context": interview.context,
                        "prompt": prompt,
                        "answer": answer,
                        "finished": answer[-1] in model.spec.stop_ids,
                    }
                )
                for prompt, answer in zip(interview.prompts, answers, strict=True)
                if not degenerate(answer)
            ]
            file.write("".join(line + "\n" for line in lines))
            file.flush()
            added += len(lines)
    return added


def _next(path: Path, count: int) -> int:
    """The interview to go on with: the last of the file, whose lines are removed, unless the file holds more."""
    if not path.is_file():
        return 0
    whole = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    numbers = [_interview_of(line, path, place) for place, line in enumerate(whole, 1)]
    last = numbers[-1] if numbers else 0
    if last < count:
        path.write_bytes(b"".join(line for line, number in zip(whole, numbers, strict=True) if number < last))
    return last


def _interview_of(line: bytes, path: Path, place: int) -> int:
    """The number of the interview that a line, the `place`-th of its file, belongs to."""
    try:
        return int(json.loads(line)["interview"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: line {place} is damaged. Delete the file to have the model asked anew.") from error
