/**
 * One owner hands slots to four Workers, which check and free them, 10^7 in all; now and then a Worker
 * is terminated in the middle, and what it held is taken back. Every 100 ms the memory that the slab
 * has ever used is compared with what is in use: it stays below twice that. At the end every slot of
 * the slab can be had exactly once. The Zig side runs under ThreadSanitizer (`npm run test:race`) and
 * the seeded scheduler (`npm run zig-build -- schedules`); this proof runs the latter too at full size.
 */
import { ok, strictEqual } from "node:assert/strict";
import { SlabOwner } from "holdfast";
import type { ProofOptions } from "../../scripts/proofs.ts";
import { run as runCommand } from "../../scripts/toolchain.ts";
import {
  carried,
  endWord,
  type FreerOrder,
  putWord,
  ringSlots,
  takenWord,
  wordsBytes,
  wrongWord,
} from "../fixtures/slab_freer.ts";
import { randomFrom, seedOfRun } from "../fixtures/waiting.ts";

export const name = "slab-workers";
export const issue = 6;
export const title =
  "four Workers free 10^7 slots of one owner, some terminated in the middle; every slot is accounted for";

const workerCount = 4;
/** In use all the time, beside what is on its way. */
const residentSlots = 20_000;
const capacity = 200_000;
const sampleMs = 100;
const sliceSlots = 512;

export async function run({ size, log }: ProofOptions): Promise<void> {
  const total = size === "full" ? 10_000_000 : 200_000;
  const seed = seedOfRun();
  log(`SEED=${seed}`);
  const random = randomFrom(seed);
  const owner = new SlabOwner({ layout: carried, capacity, leases: true });
  const resident = Array.from({ length: residentSlots }, () => owner.alloc());
  const token = owner.remote().token;
  const freers = await Promise.all(Array.from({ length: workerCount }, () => Freer.start(token)));
  let sent = 0;
  let terminated = 0;
  let takenBack = 0;
  let worst = 0;
  let samples = 0;
  let nextSample = performance.now();
  let nextEnd = total / 20;
  while (sent < total) {
    for (const freer of freers) {
      const count = Math.min(freer.room(), sliceSlots, total - sent);
      for (let i = 0; i < count; i++) {
        const slot = owner.alloc();
        owner.fields.number.set(slot, slot);
        owner.lend(slot, freer.holder);
        freer.put(slot);
      }
      freer.publish();
      sent += count;
    }
    if (performance.now() >= nextSample) {
      const { carvedSlots, liveSlots } = owner.stats();
      worst = Math.max(worst, carvedSlots / liveSlots);
      ok(carvedSlots <= 2 * liveSlots, `${carvedSlots} slots retained, ${liveSlots} live`);
      samples++;
      nextSample += sampleMs;
    }
    if (sent >= nextEnd) {
      nextEnd += total / 20;
      const at = Math.floor(random() * workerCount);
      await freers[at]!.terminate();
      // Those that it has lost: in its ring, or in its hands.
      takenBack += owner.takeBack();
      terminated++;
      freers[at] = await Freer.start(token);
    } else await Bun.sleep(0);
  }
  for (const freer of freers) await freer.finish();
  strictEqual(owner.held().length, 0, "slots of Workers that ended are left");
  owner.drain();
  const { liveSlots, corruptionEvents } = owner.stats();
  strictEqual(liveSlots, residentSlots, "slots were lost or are in use twice");
  strictEqual(corruptionEvents, 0, "a free was refused");
  ok(takenBack >= 100 * terminated, "no Worker was terminated with slots in its hands");
  for (const slot of resident) owner.free(slot);
  const all = new Set<number>();
  for (let i = 0; i < capacity; i++) all.add(owner.alloc());
  strictEqual(all.size, capacity, "a slot came twice");
  owner.close();
  log(
    `${sent} slots sent, ${terminated} Workers terminated, ${takenBack} slots taken back from them`,
  );
  log(`${samples} samples: retained at most ${worst.toFixed(2)} of live`);
  if (size === "full") {
    const { status, output } = await runCommand(
      [process.execPath, "scripts/zig-build.ts", "schedules", "--", "--only=owner_slab"].concat(
        "--schedules=200000",
      ),
    );
    ok(status === 0, output);
    log(output.trim().split("\n").at(-1) ?? "");
  }
}

class Freer {
  holder = 0;
  #worker = new Worker(new URL("../fixtures/slab_freer.ts", import.meta.url).href);
  #ring = new Float64Array(new SharedArrayBuffer(ringSlots * 8));
  #words = new Int32Array(new SharedArrayBuffer(wordsBytes));
  #put = 0;
  #answer = Promise.withResolvers<{ holder: number } | { freed: number }>();
  #closed: Promise<void>;

  private constructor() {
    this.#closed = new Promise((resolve) => {
      this.#worker.addEventListener("close", () => resolve());
    });
    this.#worker.onmessage = ({ data }) => this.#answer.resolve(data);
    this.#worker.onerror = ({ message }) => this.#answer.reject(new Error(message));
  }

  static async start(token: FreerOrder["token"]): Promise<Freer> {
    const freer = new Freer();
    const order: FreerOrder = {
      token,
      ring: freer.#ring.buffer as SharedArrayBuffer,
      words: freer.#words.buffer as SharedArrayBuffer,
    };
    freer.#worker.postMessage(order);
    const answer = await freer.#answer.promise;
    freer.#answer = Promise.withResolvers();
    freer.holder = (answer as { holder: number }).holder;
    return freer;
  }

  room(): number {
    return ringSlots - (this.#put - Atomics.load(this.#words, takenWord));
  }

  put(slot: number): void {
    this.#ring[this.#put++ % ringSlots] = slot;
  }

  publish(): void {
    Atomics.store(this.#words, putWord, this.#put);
    Atomics.notify(this.#words, putWord);
  }

  async terminate(): Promise<void> {
    this.#worker.terminate();
    await this.#closed;
    this.#check();
    // Its thread has ended when the engine says so, a little after.
    await Bun.sleep(2);
  }

  async finish(): Promise<void> {
    Atomics.store(this.#words, endWord, 1);
    const answer = await this.#answer.promise;
    strictEqual((answer as { freed: number }).freed, this.#put);
    await this.terminate();
  }

  #check(): void {
    const wrong = Atomics.load(this.#words, wrongWord);
    ok(wrong === 0, wrong === 1 ? "a slot carried another's number" : "a free was refused");
  }
}
