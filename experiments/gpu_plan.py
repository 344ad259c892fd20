"""What an XLA program for a GPU launches, and what the host waits for."""

import re
from collections import Counter
from collections.abc import Iterator

# Instructions of an optimised module that are no kernels.
_NO_KERNEL = {
  *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "call"),
  *("while", "conditional", "opt-barrier", "after-all", "add-dependency"),
  "partition-id",
}
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = .*? ([a-z][\w-]*)\(")
# Computations that are run, rather than compiled into an instruction.
_CALLED = re.compile(
  r"(?:body|condition|true_computation|false_computation|to_apply"
  r"|branch_computations)=(\{[^}]*\}|%?[\w.-]+)"
)
# A convolution of cuDNN: its number format, and the order of its axes.
_CONVOLUTION = re.compile(
  r" = \((\w+)\[[^)]*\) custom-call\(.*dim_labels=(\w+)_\w+->\w+,"
  r" custom_call_target=\"__cudnn\$conv"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_THUNK = re.compile(r"(\s*)\d+: (k\w+)")


def read_plan(text: str) -> dict[str, int]:
  """What is in the text of an optimised module.

  A ``while`` without a known number of iterations copies its condition to the
  host before each, a ``conditional`` its index once. Kernels of a loop count as
  often as it is run, if that is known, else once; all branches of a conditional
  count. What is inside a fusion or a reduction is no kernel of its own.
  """
  computations = dict(_computations(text))
  counts = {"while": 0, "conditional": 0, "kernels": 0}

  def walk(name: str, times: int) -> None:
    for line in computations.get(name, ()):
      match = _INSTRUCTION.match(line)
      if match is None:
        continue
      opcode = match[1]
      trips = _TRIPS.search(line)
      counts["kernels"] += times * (opcode not in _NO_KERNEL)
      if opcode == "conditional" or (opcode == "while" and not trips):
        counts[opcode] += 1
      if opcode in ("while", "conditional", "call"):
        inner = times * int(trips[1]) if trips else times
        for names in _CALLED.findall(line):
          for called in re.findall(r"[\w.-]+", names):
            walk(called, inner)

  walk("ENTRY", 1)
  return {
    "host_waits": counts["while"] + counts["conditional"],
    "whiles": counts["while"],
    "conditionals": counts["conditional"],
    "kernels": counts["kernels"],
  }


def read_convolutions(text: str) -> dict[str, int]:
  """Counts convolutions by kind; ``bf16 b01f``: bfloat16, channels last."""
  kinds = (" ".join(found) for found in _CONVOLUTION.findall(text))
  return dict(Counter(kinds))


def _computations(text: str) -> Iterator[tuple[str, list[str]]]:
  lines: list[str] = []
  for line in text.splitlines():
    if line.endswith("{") and not line.startswith(" "):
      name = line.lstrip("%").split(" ")[0]
      lines = []
      yield name, lines
    else:
      lines.append(line)


def waits_outside_command_buffers(thunks: str) -> int:
  """Loops and conditionals of a dumped launch plan that the host decides.

  What is inside a command buffer is decided on the device.

  Args:
    thunks: the text of ``*thunk_sequence_after_thunk_passes.txt``, in which the
      indentation says what is inside of what.
  """
  around: list[tuple[int, str]] = []
  waits = 0
  for line in thunks.splitlines():
    match = _THUNK.match(line)
    if match is None:
      continue
    depth, kind = len(match[1]), match[2]
    while around and around[-1][0] >= depth:
      around.pop()
    is_inside = any(outer == "kCommandBuffer" for _, outer in around)
    waits += kind in ("kWhile", "kConditional") and not is_inside
    around.append((depth, kind))
  return waits
