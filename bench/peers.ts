// The native harness from outside: one process for each allocator, driven line by line.
//
// All processes of a row live at the same time, each with its own warm heap; only the one whose
// turn it is runs, the others sleep in `read`. That is what makes repetitions interleave.

import { ensureLibrary } from "../scripts/library-build.ts";
import type { RegistryPeer } from "./build.ts";
import { buildHarness, buildPeer, findDebianLibrary } from "./build.ts";
import { median, shuffled } from "./comparison.ts";

export type Face =
  | "holdfast"
  | `holdfast_${"numbers" | "global" | "direct" | "linked" | "reclaiming" | "reclaiming_direct" | "slab" | "lease"}`;
/** Allocators that need no compiler of another language. */
export const readyPeers = ["glibc", "smp", "jemalloc", "tcmalloc"] as const;
export type PeerName = Face | (typeof readyPeers)[number] | RegistryPeer;

export interface Work {
  /** As it stands in the table: "pair, 2 MiB". */
  name: string;
  /** The harness's word for it. */
  load: string;
  bytes: number;
  /** Further numbers of the command: live blocks, order, touch. */
  extra?: readonly number[];
  /** A fixed number of operations instead of one that fills a block of time. */
  count?: number;
}

/** A peer that can be started, or the reason why not. */
export type Source = { name: PeerName; path: string } | { name: PeerName; missing: string };

/** How long a process may take to answer before it is given up: the first touch of gigabytes is slow. */
const patienceMs = 60_000;
/** A workload of a fixed number of operations takes a second or two; what needs this long hangs. */
const countPatienceMs = 20_000;
/** A repetition is the median of a few blocks, so that one interruption does not decide it. */
const blocksPerTurn = 3;
const blockMs = 20;
const smokeBlockMs = 1;

/** jemalloc wants more static thread-local space than the loader keeps for late libraries. */
const environment = { ...process.env, GLIBC_TUNABLES: "glibc.rtld.optional_static_tls=16384" };

export function findPeer(name: PeerName): Source {
  switch (name) {
    case "holdfast":
    case "holdfast_numbers":
    case "holdfast_global":
    case "holdfast_direct":
    case "holdfast_linked":
    case "holdfast_reclaiming":
    case "holdfast_reclaiming_direct":
    case "holdfast_slab":
    case "holdfast_lease":
      return { name, path: ensureLibrary() };
    case "glibc":
    case "smp":
      return { name, path: "" };
    case "jemalloc":
      return { name, ...findDebianLibrary("libjemalloc.so.2", "libjemalloc2") };
    case "tcmalloc":
      return { name, ...findDebianLibrary("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4") };
    default:
      return { name, ...buildPeer(name) };
  }
}

/** The library does not have a function that the row drives. */
export class MissingFace extends Error {
  constructor(symbol: string) {
    super(`needs ${symbol || "a face"} that this checkout does not have yet`);
  }
}

export class PeerProcess {
  readonly name: PeerName;
  version = "";
  /** Highest resident set of its workloads, without what the harness itself needs. */
  peakBytes = 0;
  #process: Bun.Subprocess<"pipe", "pipe", "inherit">;
  #output: AsyncIterator<Uint8Array>;
  #pending = "";

  private constructor(name: PeerName, path: string) {
    this.name = name;
    this.#process = Bun.spawn([buildHarness(), name, ...(path ? [path] : [])], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
      env: environment,
    });
    this.#output = this.#process.stdout[Symbol.asyncIterator]();
  }

  static async start(source: { name: PeerName; path: string }): Promise<PeerProcess> {
    const peer = new PeerProcess(source.name, source.path);
    const [word, ...version] = (await peer.#line(patienceMs)).split(" ");
    if (word === "missing") throw new MissingFace(version.join(" "));
    if (word !== "ready") throw new Error(`${source.name} did not start`);
    peer.version = version.join(" ");
    return peer;
  }

  get label(): string {
    return `${this.name} ${this.version}`;
  }

  /** One line to the harness and the numbers of its answer. */
  command(...words: (string | number)[]): Promise<number[]> {
    return this.#ask(words, patienceMs);
  }

  async #ask(words: (string | number)[], patience: number): Promise<number[]> {
    this.#process.stdin.write(`${words.join(" ")}\n`);
    await this.#process.stdin.flush();
    const answer = await this.#line(patience);
    const [word, ...numbers] = answer.split(" ");
    if (word !== "ok") throw new Error(`${this.name} ${words.join(" ")}: ${answer}`);
    return numbers.map(Number);
  }

  /** Nanoseconds for one operation of a workload; notes the peak of the resident set. */
  async measure(work: Work, count: number, fault: boolean): Promise<number> {
    const words = [work.load, work.bytes, count, fault ? 1 : 0, ...(work.extra ?? [])];
    const patience = work.count === undefined ? patienceMs : countPatienceMs;
    const [ns = Number.NaN, operations = 1, , peak = 0] = await this.#ask(words, patience);
    this.peakBytes = Math.max(this.peakBytes, peak);
    return ns / operations;
  }

  async end(): Promise<void> {
    this.#process.stdin.end();
    await this.#process.exited;
  }

  async #line(patience: number): Promise<string> {
    let gaveUp = false;
    const timer = setTimeout(() => {
      gaveUp = true;
      this.#process.kill("SIGKILL");
    }, patience);
    try {
      while (!this.#pending.includes("\n")) {
        const { done, value } = await this.#output.next();
        if (done) {
          const how = gaveUp ? `gave no answer in ${patience / 1000} s` : "ended without an answer";
          throw new Error(`${this.name} ${how}`);
        }
        this.#pending += new TextDecoder().decode(value);
      }
    } finally {
      clearTimeout(timer);
    }
    const end = this.#pending.indexOf("\n");
    const line = this.#pending.slice(0, end);
    this.#pending = this.#pending.slice(end + 1);
    return line;
  }
}

export interface Rounds {
  /** The harness's numbers themselves, laid end to end, instead of time per operation. */
  raw?: boolean;
  rounds: number;
  smoke: boolean;
  random: () => number;
}

/**
 * Nanoseconds per operation of each peer in each round; the peers take turns in an order drawn anew
 * for each round, and a first round is thrown away. A peer that fails is left out of the answer, and
 * `dropped` says why.
 */
export async function interleave(
  peers: readonly PeerProcess[],
  work: Work,
  options: Rounds,
  dropped: Map<PeerName, string> = new Map(),
): Promise<Map<PeerName, number[]>> {
  const counts = new Map<PeerName, number>();
  const samples = new Map<PeerName, number[]>();
  const attempt = async (peer: PeerProcess, run: () => Promise<void>) => {
    if (dropped.has(peer.name)) return;
    try {
      await run();
    } catch (error) {
      dropped.set(peer.name, String(error));
      samples.delete(peer.name);
    }
  };
  for (const peer of peers) {
    await attempt(peer, async () => {
      const blockTime = options.smoke ? smokeBlockMs : blockMs;
      counts.set(peer.name, work.count ?? (await countFor(peer, work, blockTime)));
      samples.set(peer.name, []);
    });
  }
  const blocks = options.smoke || work.count !== undefined ? 1 : blocksPerTurn;
  for (let round = -1; round < options.rounds; round++) {
    for (const peer of shuffled(peers, options.random)) {
      await attempt(peer, async () => {
        const count = counts.get(peer.name) ?? 1;
        if (options.raw) {
          const words = [work.load, work.bytes, count, 0, ...(work.extra ?? [])];
          const numbers = await peer.command(...words);
          if (round >= 0) samples.get(peer.name)?.push(...numbers);
          return;
        }
        const turn: number[] = [];
        for (let block = 0; block < blocks; block++) {
          turn.push(await peer.measure(work, count, !options.smoke && block === 0));
        }
        if (round >= 0) samples.get(peer.name)?.push(median(turn));
      });
    }
  }
  return samples;
}

/** How many operations fill a block of time. */
async function countFor(peer: PeerProcess, work: Work, milliseconds: number): Promise<number> {
  const wantedNs = milliseconds * 1e6;
  let count = 64;
  for (;;) {
    const ns = await peer.measure(work, count, false);
    if (ns * count >= wantedNs / 8) return Math.max(1, Math.round(wantedNs / ns));
    count *= 4;
  }
}
