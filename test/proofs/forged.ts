/**
 * No number that was not issued, or was issued for something that is over, is ever accepted: not a
 * random one, not a live one with one bit flipped, not a freed one, not an address of another pool,
 * from two Workers at once, by any function. And the table's numbers last: 2^33 leases accept no
 * stale one and do not use it up (zig/table_marathon.zig).
 */
import type { ProofOptions } from "../../scripts/proofs.ts";
import { run as runCommand, zigPath } from "../../scripts/toolchain.ts";
import { layouts } from "../../src/abi.gen.ts";
import { binding, more } from "../../src/binding.ts";
import { readFigures } from "../../src/figures.ts";
import type { ForgeOrder, ForgeReport } from "../fixtures/forger.ts";
import { seedOfRun } from "../fixtures/waiting.ts";

export const name = "forged";
export const issue = 2;
export const title =
  "no random, flipped, stale or foreign number is accepted, from two Workers at once";

const leaseCount = 2000;
const regionCount = 64;
const leaseBytes = 5000;

export async function run({ size, log }: ProofOptions): Promise<void> {
  const full = size === "full";
  const seed = seedOfRun();
  log(`SEED=${seed}`);
  await forge(seed, full ? 100_000 : 5000, log);
  const leases = full ? 2 ** 33 : 2 ** 22;
  // Debug compiles in seconds; the full run wants the speed.
  const mode = full ? "-OReleaseFast" : "-ODebug";
  const program = [zigPath(), "run", mode, "zig/table_marathon.zig", "--"];
  const given = [`--leases=${leases}`, `--seed=${seed}`];
  const { status, output } = await runCommand([...program, ...given]);
  if (status !== 0) throw new Error(`the table alone through ${leases} leases:\n${output}`);
  for (const line of output.trim().split("\n")) log(line);
}

async function forge(seed: number, count: number, log: (line: string) => void): Promise<void> {
  const { thread, block } = binding;
  const symbols = { ...binding.symbols, ...more() };
  const pools: [number, number] = [makePool(), makePool()];
  const before = figures(pools);
  const live: number[] = [];
  const freed: number[] = [];
  const addresses: number[] = [];
  for (let at = 0; at < leaseCount; at++) {
    const pool = pools[at % 2] as number;
    live.push(symbols.hf_alloc(thread, pool, leaseBytes, 1) as number);
    addresses.push(block[0] as number);
    const over = symbols.hf_alloc(thread, pool, leaseBytes, 1) as number;
    freed.push(over);
    symbols.hf_free(thread, over);
    // A used-up token is as stale as a freed handle.
    const moved = symbols.hf_alloc(thread, pool, 64, 0) as number;
    const token = symbols.hf_transfer(thread, moved, 0) as number;
    const adopted = symbols.hf_adopt(thread, token) as number;
    symbols.hf_free(thread, adopted);
    freed.push(moved, token, adopted);
  }
  const regions: number[] = [];
  for (let at = 0; at < regionCount; at++) {
    regions.push(Number(symbols.hf_region_alloc(thread, pools[0], 2 ** 21, null)));
  }

  const order: Omit<ForgeOrder, "seed"> = { count, live, freed, pools, regions };
  const reports = await Promise.all(
    [seed, seed + 1].map((each) => inWorker({ ...order, seed: each })),
  );
  for (const { presented, live: chance, accepted } of reports) {
    log(`${presented} numbers refused, ${chance} not presented since they were live by chance`);
    if (accepted.length > 0) throw new Error(`accepted:\n${accepted.slice(0, 10).join("\n")}`);
  }

  // Everything that was live is still live, where it was, and ends once.
  live.forEach((handle, at) => {
    if (symbols.hf_describe(thread, handle) !== 0 || block[0] !== addresses[at]) {
      throw new Error(`live handle ${handle} was harmed`);
    }
    if (symbols.hf_free(thread, handle) !== 0) throw new Error(`${handle} cannot be freed`);
    if (symbols.hf_free(thread, handle) >= 0) throw new Error(`${handle} can be freed twice`);
  });
  for (const address of regions) {
    const free = () => symbols.hf_region_free(thread, pools[0], address as never);
    if (free() !== 0) throw new Error("a region cannot be freed");
    if (free() >= 0) throw new Error("a region can be freed twice");
  }
  const after = figures(pools);
  if (after !== before) throw new Error(`figures are ${after}, they were ${before}`);
  for (const pool of pools) {
    if (symbols.hf_pool_close(thread, pool, 0) !== 0) throw new Error("a pool is not empty");
  }
}

function makePool(): number {
  return Number(more().hf_pool_create(binding.thread, new Uint8Array(layouts.PoolOptions.size)));
}

/** Live and closing leases and allocated bytes of the pools, as a line. */
function figures(pools: number[]): string {
  return pools
    .map((pool) => {
      const out = new Uint8Array(layouts.PoolStats.size);
      more().hf_pool_stats(pool, out);
      const { liveHandles, closingHandles, allocatedBytes } = readFigures(layouts.PoolStats, out);
      return `${liveHandles} live, ${closingHandles} closing, ${allocatedBytes} bytes`;
    })
    .join(", ");
}

function inWorker(order: ForgeOrder): Promise<ForgeReport> {
  const worker = new Worker(new URL("../fixtures/forger.ts", import.meta.url).href);
  return new Promise<ForgeReport>((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
    worker.postMessage(order);
  }).finally(() => worker.terminate());
}
