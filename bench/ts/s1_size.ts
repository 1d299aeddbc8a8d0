// S1: bytes of the module, with and without statistics, against the bound and the opponents.

import { compare } from "../comparison.ts";
import { targets } from "../targets.ts";
import { holdfastModules, type Module, opponents } from "../wasm/modules.ts";

const { bare, full } = holdfastModules();
const { judged, shown } = opponents();
const lines = [
  { module: bare, work: "alloc, free, realloc", bound: targets.S1.bareBytes },
  { module: full, work: "with statistics", bound: targets.S1.fullBytes },
].flatMap(({ module, work, bound }) => {
  const ours = [module.bytes.length];
  const named = `size, ${work}: ${label(module)}`;
  const line = {
    row: "S1",
    work: named,
    unit: "bytes" as const,
    ours,
    repetitions: "exact" as const,
  };
  return [
    compare({ ...line, against: "the bound", theirs: [bound], target: 1 }),
    ...[...judged, ...shown].map((other) =>
      compare({ ...line, against: label(other), theirs: [other.bytes.length] }),
    ),
  ];
});
console.log(JSON.stringify(lines));

function label({ name, hash }: Module): string {
  return `${name} ${hash}`;
}
