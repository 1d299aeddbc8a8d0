// The native harness from outside: one process for each allocator, driven line by line.
//
// All processes of a row live at the same time, each with its own warm heap; only the one whose
// turn it is runs, the others sleep in `read`. That is what makes repetitions interleave.

import { ensureLibrary } from "../scripts/library-build.ts";
import type { RegistryPeer } from "./build.ts";
import { buildHarness, buildPeer, findDebianLibrary, registryPeers } from "./build.ts";
import { median, shuffled } from "./comparison.ts";

export type PeerName = "holdfast" | "glibc" | "jemalloc" | "tcmalloc" | RegistryPeer;
export const opponents: readonly PeerName[] = ["glibc", "jemalloc", "tcmalloc", ...registryPeers];

export type Workload = "pairs" | "batches" | "handover";

/** A peer that can be started, or the reason why not. */
export type Source = { name: PeerName; path: string } | { name: PeerName; missing: string };

/** One operation of a workload may take this long before its process is given up. */
const patienceMs = 120_000;
/** A repetition is the median of a few blocks, so that one interruption does not decide it. */
const blocksPerTurn = 3;
const blockMs = 20;
const smokeBlockMs = 1;

/** jemalloc wants more static thread-local space than the loader keeps for late libraries. */
const environment = { ...process.env, GLIBC_TUNABLES: "glibc.rtld.optional_static_tls=16384" };

export function findPeer(name: PeerName): Source {
  switch (name) {
    case "holdfast":
      return { name, path: ensureLibrary() };
    case "glibc":
      return { name, path: "" };
    case "jemalloc":
      return { name, ...findDebianLibrary("libjemalloc.so.2", "libjemalloc2") };
    case "tcmalloc":
      return { name, ...findDebianLibrary("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4") };
    default:
      return { name, ...buildPeer(name) };
  }
}

export class PeerProcess {
  readonly name: PeerName;
  version = "";
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
    const [word, ...version] = (await peer.#line()).split(" ");
    if (word !== "ready") throw new Error(`${source.name} did not start`);
    peer.version = version.join(" ");
    return peer;
  }

  get label(): string {
    return `${this.name} ${this.version}`;
  }

  /** One line to the harness and the three numbers of its answer. */
  async command(...words: (string | number)[]): Promise<[number, number, number]> {
    this.#process.stdin.write(`${words.join(" ")}\n`);
    await this.#process.stdin.flush();
    const answer = await this.#line();
    const [word, a, b, c] = answer.split(" ");
    if (word !== "ok") throw new Error(`${this.name} ${words.join(" ")}: ${answer}`);
    return [Number(a), Number(b), Number(c)];
  }

  /** Nanoseconds for one operation of a workload. */
  async measure(load: Workload, bytes: number, count: number, fault: boolean): Promise<number> {
    const [ns, operations] = await this.command(load, bytes, count, fault ? 1 : 0);
    return ns / operations;
  }

  async end(): Promise<void> {
    this.#process.stdin.end();
    await this.#process.exited;
  }

  async #line(): Promise<string> {
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), patienceMs);
    try {
      while (!this.#pending.includes("\n")) {
        const { done, value } = await this.#output.next();
        if (done) throw new Error(`${this.name} ended without an answer`);
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
  rounds: number;
  smoke: boolean;
  random: () => number;
}

/**
 * Nanoseconds per operation of each peer in each round; the peers take turns in an order drawn anew
 * for each round, and a first round is thrown away.
 */
export async function interleave(
  peers: readonly PeerProcess[],
  load: Workload,
  bytes: number,
  options: Rounds,
): Promise<Map<PeerName, number[]>> {
  const counts = new Map<PeerName, number>();
  const samples = new Map<PeerName, number[]>();
  for (const peer of peers) {
    counts.set(
      peer.name,
      await countFor(peer, load, bytes, options.smoke ? smokeBlockMs : blockMs),
    );
    samples.set(peer.name, []);
  }
  for (let round = -1; round < options.rounds; round++) {
    for (const peer of shuffled(peers, options.random)) {
      const count = counts.get(peer.name) ?? 1;
      const turn: number[] = [];
      for (let block = 0; block < (options.smoke ? 1 : blocksPerTurn); block++) {
        turn.push(await peer.measure(load, bytes, count, !options.smoke && block === 0));
      }
      if (round >= 0) samples.get(peer.name)?.push(median(turn));
    }
  }
  return samples;
}

/** How many operations fill a block of time. */
async function countFor(
  peer: PeerProcess,
  load: Workload,
  bytes: number,
  milliseconds: number,
): Promise<number> {
  const wantedNs = milliseconds * 1e6;
  let count = 64;
  for (;;) {
    const ns = await peer.measure(load, bytes, count, false);
    if (ns * count >= wantedNs / 8) return Math.max(64, Math.round(wantedNs / ns));
    count *= 4;
  }
}
