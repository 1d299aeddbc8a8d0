/**
 * Huge pages and locked pages are what was asked for, or an error that says why not.
 *
 * Writes vm.nr_hugepages and puts it back, so it needs root; what cannot be shown without is
 * skipped and said. Everything that could go wrong for the process happens in a child.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { deepStrictEqual, ok, strictEqual } from "node:assert/strict";
import type { ProofOptions, ProofResult } from "../../scripts/proofs.ts";
import { runFixture } from "../fixtures/child.ts";

export const name = "pages";
export const issue = 2;
export const title =
  "huge and locked pages are obtained and reported truthfully, or refused with the reason";

const RESERVE = "/proc/sys/vm/nr_hugepages";
const HUGE_PAGES = 8;
const HUGE_PAGE_BYTES = 2 * 1024 ** 2;
const LOCK_LIMIT_BYTES = 64 * 1024;
const LOCKED_LEASES = 40_000;

export async function run({ log }: ProofOptions): Promise<ProofResult> {
  const skipped = (await explicitHugePages(log)) ?? undefined;
  await lockLimit(log);
  await manyLocked("lockedAtOnce", log);
  await manyLocked("lockedLater", log);
  if (skipped) return { skipped };
}

/** Runs both cases of explicit huge pages; answers why it could not. */
async function explicitHugePages(log: ProofOptions["log"]): Promise<string | undefined> {
  const before = readFileSync(RESERVE, "utf8").trim();
  try {
    writeFileSync(RESERVE, "0");
  } catch {
    return `${RESERVE} cannot be written: run this proof as root`;
  }
  try {
    if (freeHugePages() !== 0) return "another process holds explicit huge pages";
    await noHugePages(log);

    writeFileSync(RESERVE, String(HUGE_PAGES));
    const free = freeHugePages();
    if (free === 0) return "the system has no 2 MiB of memory in one piece to reserve";
    await someHugePages(free, log);
    strictEqual(freeHugePages(), free, "explicit huge pages went missing");
  } finally {
    writeFileSync(RESERVE, before);
  }
}

async function noHugePages(log: ProofOptions["log"]): Promise<void> {
  interface Found {
    code: string;
    message: string;
    pageKind: string;
    freed: string;
  }
  const found = await runFixture<Found>("pages_child.ts", { args: ["none"] });
  strictEqual(found.code, "ERR_HOLDFAST_HUGE_UNAVAILABLE");
  ok(found.message.includes("vm.nr_hugepages"), found.message);
  ok(["base", "thp"].includes(found.pageKind), found.pageKind);
  strictEqual(found.freed, "freed");
  log(`none reserved: "hugetlb" is ${found.code}, "auto" gives ${found.pageKind}`);
}

async function someHugePages(free: number, log: ProofOptions["log"]): Promise<void> {
  interface Found {
    code: string;
    leases: number;
    kinds: string[];
    hugeBytes: number;
    whole: boolean;
    hugeBytesAfter: number;
  }
  const found = await runFixture<Found>("pages_child.ts", { args: ["hugetlb"] });
  deepStrictEqual(found, {
    code: "ERR_HOLDFAST_HUGE_UNAVAILABLE",
    leases: free,
    kinds: ["hugetlb"],
    hugeBytes: free * HUGE_PAGE_BYTES,
    whole: true,
    hugeBytesAfter: 0,
  });
  log(
    `${free} reserved: ${found.leases} obtained, written and reported, the next is ${found.code}`,
  );
}

function freeHugePages(): number {
  return Number(/HugePages_Free:\s*(\d+)/.exec(readFileSync("/proc/meminfo", "utf8"))?.[1]);
}

async function lockLimit(log: ProofOptions["log"]): Promise<void> {
  interface Found {
    uid: number;
    code: string;
    message: string;
    syscall: string;
    smallCode: string;
    locked: boolean;
    withinLocked: boolean;
    liveHandles: number;
  }
  const args = ["lockLimit", String(LOCK_LIMIT_BYTES)];
  const found = await runFixture<Found>("pages_child.ts", { args });
  ok(found.uid !== 0, "the child is still root");
  strictEqual(found.code, "ERR_HOLDFAST_LOCK_LIMIT");
  strictEqual(found.smallCode, "ERR_HOLDFAST_LOCK_LIMIT");
  strictEqual(found.syscall, "mlock");
  for (const part of ["4 MiB", "RLIMIT_MEMLOCK is 64 KiB", "ulimit -l"]) {
    ok(found.message.includes(part), `"${part}" is not in: ${found.message}`);
  }
  strictEqual(found.locked, false);
  strictEqual(found.withinLocked, true);
  strictEqual(found.liveHandles, 2);
  log(`user ${found.uid}: ${found.message}`);
}

async function manyLocked(kind: "lockedAtOnce" | "lockedLater", log: ProofOptions["log"]) {
  interface Found {
    code: string;
    message: string;
    mappings: number;
    lockedBytes: number;
    other: number;
    liveHandles: number;
    lockedBytesAfter: number;
  }
  const args = [kind, String(LOCKED_LEASES)];
  const found = await runFixture<Found>("pages_child.ts", { args });
  const locked = found.lockedBytes / 4096;
  if (found.code === "") strictEqual(locked, LOCKED_LEASES);
  else ok(["ERR_HOLDFAST_LIMIT", "ERR_HOLDFAST_LOCK_LIMIT"].includes(found.code), found.code);
  // A LIMIT must be for the mappings, not for nothing.
  if (found.code === "ERR_HOLDFAST_LIMIT") {
    ok(found.mappings > 50_000, String(found.mappings));
    ok(found.message.includes("vm.max_map_count"), found.message);
  }
  strictEqual(found.other, 1);
  strictEqual(found.liveHandles, 0);
  strictEqual(found.lockedBytesAfter, 0);
  log(`${kind}: ${locked} locked leases, ${found.mappings} mappings: ${found.code || "success"}`);
}
