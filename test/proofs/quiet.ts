/**
 * The pool is quiet: a loop of leases makes no advice calls, an idle process uses no processor, and
 * what a burst has taken is given back without another call.
 */
import { ok, strictEqual } from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ProofOptions } from "../../scripts/proofs.ts";
import { runFixture } from "../fixtures/child.ts";

export const name = "quiet";
export const issue = 2;
export const title = "a steady loop causes no advice, idling no work, and a burst is given back";

const PAIRS = 100_000;
const ADVICE_CALLS_MAX = 100;
const LEASE_BYTES = 4 * 1024 ** 2;
/** Of 300 ticks in three idle seconds: what timers of Bun itself may take. */
const IDLE_TICKS_MAX = 3;
const MIB = 1024 ** 2;

export async function run({ size, log }: ProofOptions): Promise<void> {
  await loop(log);
  await steady(size === "full" ? 10_000 : 1_500, log);
  await idle(log);
  await burst((size === "full" ? 1024 : 512) * MIB, log);
}

interface Loop {
  adviceCalls: number;
  milliseconds: number;
  addresses: number[];
}

async function loop(log: ProofOptions["log"]): Promise<void> {
  const args = ["loop", String(PAIRS)];
  const found = await runFixture<Loop>("quiet_child.ts", { args });
  ok(found.adviceCalls < ADVICE_CALLS_MAX, `${found.adviceCalls} advice calls`);
  log(`${PAIRS} pairs: ${found.adviceCalls} advice calls, ${found.milliseconds.toFixed(0)} ms`);

  if (!Bun.which("strace")) return log("not compared with strace, which is not installed");
  const folder = mkdtempSync(join(tmpdir(), "holdfast-"));
  try {
    const trace = join(folder, "trace");
    const prefix = ["strace", "-f", "-e", "trace=madvise", "-o", trace];
    const traced = await runFixture<Loop>("quiet_child.ts", { args, prefix }).catch(() => null);
    if (!traced) return log("not compared with strace, which may not trace here");
    const calls = adviceOn(traced.addresses, readFileSync(trace, "utf8"));
    ok(calls < ADVICE_CALLS_MAX, `strace saw ${calls} advice calls`);
    log(`strace agrees: ${calls} on the memory of the leases`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Of all traced advice, that which touches one of the leases: Bun gives advice on its own heap. */
function adviceOn(addresses: number[], trace: string): number {
  let calls = 0;
  for (const [, from, bytes] of trace.matchAll(/madvise\((0x[0-9a-f]+), (\d+)/g)) {
    const start = Number(from);
    const end = start + Number(bytes);
    if (addresses.some((address) => address < end && address + LEASE_BYTES > start)) calls++;
  }
  return calls;
}

async function steady(milliseconds: number, log: ProofOptions["log"]): Promise<void> {
  const args = ["steady", String(milliseconds)];
  const found = await runFixture<{ adviceCalls: number; pairs: number }>("quiet_child.ts", {
    args,
  });
  ok(found.adviceCalls < ADVICE_CALLS_MAX, `${found.adviceCalls} advice calls`);
  log(`${found.pairs} pairs in ${milliseconds} ms: ${found.adviceCalls} advice calls`);
}

async function idle(log: ProofOptions["log"]): Promise<void> {
  interface Idle {
    ticks: number;
    threadTicks: number;
    wakeUps: number;
    thread: boolean;
  }
  const found = await runFixture<Idle>("quiet_child.ts", { args: ["idle"] });
  ok(found.thread, "the background thread was not found by its name");
  ok(found.ticks <= IDLE_TICKS_MAX, `the idle process ran for ${found.ticks} ticks of 10 ms`);
  strictEqual(found.threadTicks, 0, "the background thread ran in an idle process");
  strictEqual(found.wakeUps, 0, "the background thread woke up in an idle process");
  log(`3 s idle: process ${found.ticks * 10} ms, background thread never woke`);
}

async function burst(bytes: number, log: ProofOptions["log"]): Promise<void> {
  interface Burst {
    start: number;
    peak: number;
    end: number;
    residentBytes: number;
  }
  const found = await runFixture<Burst>("quiet_child.ts", { args: ["burst", String(bytes)] });
  const mib = (value: number) => `${(value / MIB).toFixed(1)} MiB`;
  const line = `RSS ${mib(found.start)}, burst ${mib(found.peak)}, 2 s later ${mib(found.end)}`;
  ok(found.peak > found.start + 0.9 * bytes, `the burst did not happen: ${line}`);
  ok(found.end <= 1.05 * found.start, line);
  log(line);
}
