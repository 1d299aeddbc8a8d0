// B9: the blob server of examples/ under load, against the same server with a Map, and against one
// that keeps nothing. Every run is a fresh process, whose resident memory the kernel tells.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { compare, generator, median, shuffled } from "../comparison.ts";
import { targets } from "../targets.ts";
import { mib, rowOptions } from "./blocks.ts";

const options = rowOptions();
const bodyBytes = options.smoke ? mib / 4 : 8 * mib;
const pairs = options.smoke ? 16 : 400;
const names = 32;
const connections = 16;
const idleMs = options.smoke ? 50 : 2000;
const kinds = ["holdfast", "map", "discard"] as const;
type Kind = (typeof kinds)[number];

interface Run {
  /** Nanoseconds that 99 of 100 requests did not exceed. */
  p99: number;
  /** Highest and last resident MiB. */
  peak: number;
  end: number;
}

const body = new Uint8Array(bodyBytes).fill(7);

async function run(kind: Kind): Promise<Run> {
  const script = join(import.meta.dir, "b9_server.ts");
  const server = Bun.spawn([process.execPath, script, kind, String(bodyBytes)], {
    env: process.env,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  try {
    const url = await firstLine(server.stdout);
    const latencies: number[] = [];
    let next = 0;
    const lane = async () => {
      while (next < pairs) {
        const path = `${url}blobs/${next++ % names}`;
        latencies.push(await timed(() => put(path)));
        latencies.push(await timed(() => get(path)));
      }
    };
    await Promise.all(Array.from({ length: connections }, lane));
    const peak = statusMiB(server.pid, "VmHWM");
    for (let name = 0; name < names; name++) {
      await fetch(`${url}blobs/${name}`, { method: "DELETE" });
    }
    server.kill("SIGUSR2");
    await Bun.sleep(idleMs);
    latencies.sort((a, b) => a - b);
    const p99 = latencies[Math.ceil(0.99 * latencies.length) - 1] ?? Number.NaN;
    return { p99, peak, end: statusMiB(server.pid, "VmRSS") };
  } finally {
    server.kill();
    await server.exited;
  }
}

async function firstLine(output: ReadableStream<Uint8Array>): Promise<string> {
  let text = "";
  for await (const chunk of output) {
    text += new TextDecoder().decode(chunk);
    if (text.includes("\n")) return text.trim();
  }
  throw new Error(`the server did not start: ${text}`);
}

async function timed(request: () => Promise<void>): Promise<number> {
  const start = Bun.nanoseconds();
  await request();
  return Bun.nanoseconds() - start;
}

async function put(path: string): Promise<void> {
  const { status } = await fetch(path, { method: "PUT", body });
  if (status !== 200 && status !== 201) throw new Error(`PUT ${path}: ${status}`);
}

async function get(path: string): Promise<void> {
  const response = await fetch(path);
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    // Let go of at once: the client's garbage is nobody's row.
    if (chunk.byteLength === chunk.buffer.byteLength) chunk.buffer.transfer(0);
  }
  if (bytes !== bodyBytes) throw new Error(`GET ${path}: ${bytes} of ${bodyBytes} bytes`);
}

/** A field of the process's status, which the kernel gives in KiB. */
function statusMiB(pid: number, field: string): number {
  const text = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(new RegExp(`${field}:\\s+(\\d+)`).exec(text)?.[1]) / 1024;
}

const random = generator(options.seed);
const runs: Record<Kind, Run[]> = { holdfast: [], map: [], discard: [] };
for (let round = 0; round < options.rounds; round++) {
  for (const kind of shuffled(kinds, random)) runs[kind].push(await run(kind));
}

const of = (kind: Kind, figure: keyof Run) => runs[kind].map((one) => one[figure]);
const work = `blob server, ${bodyBytes / mib} MiB bodies, ${pairs} PUT and GET`;
const { p99, peak, keptMiB } = targets.B9;
const asMap = { row: "B9", against: "the same with a Map" };
const asFloor = { row: "B9", against: "a server that discards bodies" };
const allowed = of("discard", "end").map((end) => end + keptMiB);
console.log(
  JSON.stringify([
    compare({
      ...asMap,
      work: `${work}: p99`,
      ours: of("holdfast", "p99"),
      theirs: of("map", "p99"),
      target: p99,
    }),
    compare({
      ...asMap,
      work: `${work}: peak resident`,
      unit: "MiB",
      ours: of("holdfast", "peak"),
      theirs: of("map", "peak"),
      target: peak,
    }),
    compare({
      ...asFloor,
      against: `${asFloor.against} + ${keptMiB} MiB`,
      work: `${work}: resident ${idleMs} ms after deleting all and a collection`,
      unit: "MiB",
      ours: of("holdfast", "end"),
      theirs: allowed,
      target: 1,
      note: `the server with a Map: ${median(of("map", "end")).toFixed(1)} MiB`,
    }),
    compare({
      ...asFloor,
      work: `${work}: p99`,
      ours: of("holdfast", "p99"),
      theirs: of("discard", "p99"),
    }),
  ]),
);
