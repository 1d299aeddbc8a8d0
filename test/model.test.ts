/**
 * Random operations through the public names against an obvious model: a Map of what each handle
 * should hold. Each handle's first, last and some middle bytes carry its own mark, so that memory
 * handed out twice, lost contents and wrong views are seen. `SEED=<n>` repeats a run.
 */
import { expect, test } from "bun:test";
import { type AllocOptions, Handle, LargePool } from "holdfast";
import { codeOf, randomFrom, seedOfRun, until } from "./fixtures/waiting.ts";

const MiB = 2 ** 20;

interface Expected {
  byteLength: number;
  mark: number;
  alias: boolean;
  zeroed: boolean;
}

/** Places of a handle that carry its mark. */
function places(byteLength: number): number[] {
  if (byteLength === 0) return [];
  const step = Math.max(1, Math.floor(byteLength / 5));
  const found = [byteLength - 1];
  for (let at = 0; at < byteLength; at += step) found.push(at);
  return found;
}

async function plan(seed: number, steps: number): Promise<void> {
  const random = randomFrom(seed);
  const whole = (below: number) => Math.floor(random() * below);
  const pool = new LargePool({ limitBytes: 512 * MiB, background: { intervalMs: 2 } });
  const live = new Map<Handle, Expected>();
  const dead: Handle[] = [];
  const deadViews: Uint8Array[] = [];
  // Swarm: each run leaves some kinds of steps out, so that others meet in other ways.
  const weights = Array.from({ length: 9 }, () => (random() < 0.8 ? random() : 0));
  weights[0] = 1;

  const size = (): number => {
    const kind = random();
    if (kind < 0.05) return 0;
    if (kind < 0.5) return 1 + whole(100_000);
    if (kind < 0.8) return 1 + whole(MiB);
    return 1 + whole(6 * MiB);
  };
  const check = (handle: Handle, expected: Expected): void => {
    expect(handle.byteLength).toBe(expected.byteLength);
    const { bytes } = handle;
    expect(bytes.length).toBe(expected.byteLength);
    for (const at of places(bytes.length)) {
      if (bytes[at] !== expected.mark)
        throw new Error(`${bytes[at]} at ${at} is not ${expected.mark}`);
    }
  };
  const mark = (handle: Handle, expected: Expected): void => {
    expected.mark = 1 + whole(255);
    const { bytes } = handle;
    for (const at of places(bytes.length)) bytes[at] = expected.mark;
  };
  const pick = (): [Handle, Expected] | undefined => [...live][whole(live.size)];
  const end = (handle: Handle, expected: Expected): void => {
    live.delete(handle);
    if (!expected.alias && expected.byteLength > 0) deadViews.push(handle.bytes);
    dead.push(handle);
  };

  const operations: ((of: [Handle, Expected]) => void)[] = [
    () => {
      if (live.size > 40) return;
      const alias = random() < 0.4;
      const zeroed = random() < 0.5;
      const options: AllocOptions = { views: alias ? "alias" : "revoke" };
      if (random() < 0.2) options.align = 2 ** whole(16);
      if (random() < 0.2) options.pages = "base";
      if (random() < 0.1) options.lock = "try";
      const byteLength = size();
      const handle = zeroed
        ? pool.alloc(byteLength, options)
        : pool.allocUnsafe(byteLength, options);
      if (zeroed && byteLength > 0) {
        for (const at of places(byteLength)) expect(handle.bytes[at]).toBe(0);
      }
      if (options.align) expect(handle.address % options.align).toBe(0);
      const expected = { byteLength, mark: 0, alias, zeroed };
      live.set(handle, expected);
      mark(handle, expected);
    },
    ([handle, expected]) => {
      end(handle, expected);
      expect(handle.free()).toBe("freed");
    },
    ([handle, expected]) => check(handle, expected),
    ([handle, expected]) => mark(handle, expected),
    ([handle, expected]) => {
      const byteLength = size();
      const first = Math.min(byteLength, expected.byteLength) > 0 ? handle.bytes[0] : undefined;
      handle.resize(byteLength);
      expected.byteLength = byteLength;
      if (first !== undefined) expect(handle.bytes[0]).toBe(first);
      mark(handle, expected);
    },
    ([handle, expected]) => {
      if (expected.alias) return;
      const views = handle.bytes;
      const adopted = Handle.adopt(handle.transfer());
      live.delete(handle);
      dead.push(handle);
      expect(views.length).toBe(0);
      live.set(adopted, expected);
      check(adopted, expected);
    },
    () => {
      const handle = dead[whole(dead.length)];
      if (!handle) return;
      expect(handle.freed).toBe(true);
      expect(["ERR_HOLDFAST_DOUBLE_FREE", "ERR_HOLDFAST_FREED"]).toContain(
        codeOf(() => handle.free()) ?? "",
      );
      expect(codeOf(() => handle.bytes)).toBe("ERR_HOLDFAST_FREED");
    },
    () => {
      if (random() < 0.2) pool.trim();
      for (const view of deadViews.splice(0)) expect(view.length).toBe(0);
    },
    ([handle, expected]) => {
      // The buffer is given away: the handle is closing until the new owner lets go.
      if (expected.alias || expected.byteLength === 0) return;
      const moved = handle.bytes.buffer.transfer();
      live.delete(handle);
      dead.push(handle);
      expect(handle.free()).toBe("closing");
      expect(new Uint8Array(moved)[0]).toBe(expected.mark);
      if (random() < 0.8) moved.transfer(0);
    },
  ];

  const total = weights.reduce((sum, weight) => sum + weight);
  for (let step = 0; step < steps; step++) {
    let at = random() * total;
    const operation = weights.findIndex((weight) => (at -= weight) < 0);
    const chosen = pick();
    if (operation > 0 && !chosen) continue;
    operations[operation]?.(chosen as [Handle, Expected]);
    const figures = pool.stats();
    const empties = [...live.values()].filter(({ byteLength }) => byteLength === 0).length;
    expect(figures.liveHandles).toBe(live.size - empties);
    const bytes = [...live.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
    expect(figures.allocatedBytes).toBe(bytes);
    if (step % 500 === 499) await Bun.sleep(0);
  }
  for (const [handle, expected] of live) {
    check(handle, expected);
    handle.free();
  }
  live.clear();
  await until("what is closing", () => pool.stats().closingHandles === 0);
  expect(pool.stats().liveHandles).toBe(0);
  expect(pool.stats().allocatedBytes).toBe(0);
  pool.close();
}

const seed = seedOfRun();

for (let run = 0; run < 8; run++) {
  test(`a random plan agrees with the model (SEED=${seed}, run ${run})`, async () => {
    try {
      await plan(seed + run, 1500);
    } catch (error) {
      throw new Error(`SEED=${seed}, run ${run}`, { cause: error });
    }
  });
}
