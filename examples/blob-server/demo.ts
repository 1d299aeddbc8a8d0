/**
 * The blob server at work, on files that every checkout of holdfast has: the Zig compiler (one
 * binary of about 160 MiB) and its standard library (some 550 sources), from node_modules.
 *
 * Starts the server as a process of its own on a free loopback port, with locked buffers on huge
 * pages where the system grants them, stores all files, 8 at a time, reads all of them back,
 * compares SHA-256, deletes them, and prints what it took. Exits with 0 only if every hash matched
 * and the server's resident memory, after a collection and `trim()`, is at most 32 MiB above what
 * the idle server had at its start.
 */
import { join } from "node:path";
import { Client, type ServerReport } from "./client.ts";
import { Meter } from "./meter.ts";

const PARALLEL = 8;
const RSS_MARGIN_BYTES = 32 * 1024 ** 2;
/** How long the server may take to be small again: Bun's own heap gives pages back by a timer. */
const SETTLE_MS = 5_000;

interface DemoFile {
  path: string;
  byteLength: number;
  sha256: string;
}

/** The compiler, whose package is named `<os>-<cpu>`, and every file of its library's `std`. */
const FILES = ["*-*/bin/zig*", "lib/std/**"];

async function findFiles(): Promise<DemoFile[]> {
  const root = join(import.meta.dir, "../../node_modules/@zigc");
  const files: DemoFile[] = [];
  for (const pattern of FILES) {
    for await (const path of new Bun.Glob(pattern).scan({ cwd: root, absolute: true })) {
      const file = Bun.file(path);
      files.push({ path, byteLength: file.size, sha256: await hash(file.stream()) });
    }
  }
  if (files.length === 0) throw new Error(`no files under ${root}: run "npm ci" first`);
  // The largest first, so that it does not run on alone at the end.
  return files.sort((a, b) => b.byteLength - a.byteLength);
}

async function hash(body: ReadableStream<Uint8Array>): Promise<string> {
  const hasher = new Bun.CryptoHasher("sha256");
  for await (const chunk of body) hasher.update(chunk);
  return hasher.digest("hex");
}

/** Runs `work` on each item, `PARALLEL` at a time, and times each. */
async function forAll<T>(
  meter: Meter,
  items: T[],
  work: (item: T, index: number) => Promise<number>,
) {
  const queue = items.entries();
  const lane = async () => {
    for (const [index, item] of queue) {
      const start = performance.now();
      const bytes = await work(item, index);
      meter.add(bytes, performance.now() - start);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, lane));
  meter.stop();
}

/** The server when everything is deleted, collected and trimmed: the smallest of several looks. */
async function settle(client: Client, targetRssBytes: number): Promise<ServerReport> {
  const deadline = performance.now() + SETTLE_MS;
  for (;;) {
    await client.trim();
    const report = await client.stats();
    if (report.rssBytes <= targetRssBytes || performance.now() > deadline) return report;
    await Bun.sleep(100);
  }
}

const MIB = (bytes: number) => `${(bytes / 1024 ** 2).toFixed(1)} MiB`;

async function demo(): Promise<boolean> {
  const files = await findFiles();
  const totalBytes = files.reduce((sum, file) => sum + file.byteLength, 0);
  console.log(
    `${files.length} files, ${MIB(totalBytes)}: the Zig compiler and its standard library, ` +
      `${PARALLEL} at a time`,
  );

  await using client = await Client.startServer(["--limit-mib", "1024", "--lock", "try"]);
  const idle = await client.stats();

  const put = new Meter("stored", files.length, totalBytes);
  const pageKinds: Record<string, number> = {};
  await forAll(put, files, async (file, index) => {
    const blob = await client.put(String(index), Bun.file(file.path));
    pageKinds[blob.pageKind] = (pageKinds[blob.pageKind] ?? 0) + blob.byteLength;
    return blob.byteLength;
  });
  const full = await client.stats();

  const get = new Meter("read back, hashed", files.length, totalBytes);
  let matches = 0;
  await forAll(get, files, async (file, index) => {
    if ((await hash(await client.get(String(index)))) === file.sha256) matches++;
    return file.byteLength;
  });

  const remove = new Meter("deleted", files.length, totalBytes);
  await forAll(remove, files, async (file, index) => {
    await client.delete(String(index));
    return file.byteLength;
  });

  const targetRssBytes = idle.rssBytes + RSS_MARGIN_BYTES;
  const end = await settle(client, targetRssBytes);

  for (const meter of [put, get, remove]) console.log(meter.summary());
  const kinds = Object.entries(pageKinds).sort(([, a], [, b]) => b - a);
  console.log(`pages    ${kinds.map(([kind, bytes]) => `${kind} ${MIB(bytes)}`).join(", ")}`);
  console.log(`locked   ${MIB(full.pool.lockedBytes)} of ${MIB(full.pool.activeBytes)} in use`);
  console.log(
    `RSS      ${MIB(idle.rssBytes)} idle at start, ${MIB(end.peakRssBytes)} peak, ` +
      `${MIB(end.rssBytes)} at end (at most ${MIB(targetRssBytes)})`,
  );
  console.log(`SHA-256  ${matches} of ${files.length} match`);
  return matches === files.length && end.rssBytes <= targetRssBytes;
}

const ok = await demo();
console.log(ok ? "ok" : "FAILED");
process.exit(ok ? 0 : 1);
