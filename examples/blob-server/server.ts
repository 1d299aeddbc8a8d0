/**
 * An object store in memory, over HTTP. Bodies live in a holdfast pool, off the JavaScript heap.
 *
 *     PUT    /blobs/:name   stores the body         201, 200 when it replaced one
 *     GET    /blobs/:name   sends it                200
 *     HEAD   /blobs/:name   tells its length        200
 *     DELETE /blobs/:name   frees it                204
 *     GET    /stats         the store, the pool and the process as JSON
 *     POST   /trim          collects garbage and gives free memory back to the system
 *
 * 400: the body was not as long as its content-length said. 404: no such blob. 413: longer than the
 * pool's limit. 507: the pool is full, nothing was stored and nothing was lost.
 *
 *     bun examples/blob-server/server.ts --port 8080 --limit-mib 4096 --lock try
 *
 * It asks nobody who they are: keep it on a loopback address or behind something that does.
 */
import { parseArgs } from "node:util";
import { type AllocOptions, HoldfastError, LargePool, stats, trim } from "holdfast";
import { BlobStore, type StoredBlob, WrongLength } from "./store.ts";

export interface ServerOptions {
  /** 0, the default: any free port. */
  port?: number;
  hostname?: string;
  /** The pool to store in. Its limit is the most that may be stored, and the longest body. */
  pool?: LargePool;
  /** Without a pool: the limit of the one that the server makes, and closes. Default: 1 GiB. */
  limitBytes?: number;
  /** Blobs are files without names and are sent without a copy (Linux); `pool` has them too. */
  files?: boolean;
  /** How each blob's memory is asked for. */
  memory?: Pick<AllocOptions, "pages" | "lock" | "prefault">;
  /** Seconds after which a silent connection is closed and its upload given up. Default: 30. */
  idleSeconds?: number;
}

export interface BlobServer extends AsyncDisposable {
  readonly url: URL;
  readonly port: number;
  readonly store: BlobStore;
  /** Stops listening, ends open connections, frees every blob. */
  stop(): Promise<void>;
}

const DEFAULT_LIMIT_BYTES = 1024 ** 3;

export function startServer(options: ServerOptions = {}): BlobServer {
  const pool =
    options.pool ??
    new LargePool({
      limitBytes: options.limitBytes ?? DEFAULT_LIMIT_BYTES,
      pages: options.files ? "memfd" : "auto",
    });
  const { limitBytes } = pool.stats();
  const store = new BlobStore(pool, options.memory, options.files);

  const server = Bun.serve({
    port: options.port ?? 0,
    hostname: options.hostname ?? "127.0.0.1",
    // A pool without a limit says -1.
    maxRequestBodySize: limitBytes < 0 ? Number.MAX_SAFE_INTEGER : limitBytes,
    idleTimeout: options.idleSeconds ?? 30,
    routes: {
      "/blobs/:name": {
        PUT: async ({ params: { name }, headers, body }) => {
          const { blob, replaced } = await store.put(name, body, declaredLength(headers));
          return Response.json(describe(name, blob), { status: replaced ? 200 : 201 });
        },
        GET: ({ params: { name } }) => {
          const blob = store.get(name);
          return blob ? new Response(blob.body(), { headers: BINARY }) : notFound(name);
        },
        HEAD: ({ params: { name } }) => {
          const blob = store.get(name);
          if (!blob) return notFound(name);
          return new Response(null, {
            headers: { ...BINARY, "content-length": String(blob.byteLength) },
          });
        },
        DELETE: ({ params: { name } }) =>
          store.delete(name) ? new Response(null, { status: 204 }) : notFound(name),
      },
      "/stats": { GET: () => Response.json(report(store)) },
      "/trim": {
        POST: () => {
          Bun.gc(true);
          return Response.json({ trimmedBytes: trim() });
        },
      },
    },
    fetch: () => new Response("unknown path\n", { status: 404 }),
    error: failure,
  });

  const end = async () => {
    await server.stop(true);
    store.clear();
    // What was cut off may need a moment to notice; its leases end here.
    if (!options.pool) pool.close({ force: true });
  };
  let ended: Promise<void> | undefined;
  const stop = () => (ended ??= end());
  return {
    url: server.url,
    port: server.port as number,
    store,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

const BINARY = { "content-type": "application/octet-stream" };

/** Bun refuses malformed and doubled lengths itself, so what arrives is a number or nothing. */
function declaredLength(headers: Headers): number | null {
  const text = headers.get("content-length");
  if (text !== null) return Number(text);
  return headers.has("transfer-encoding") ? null : 0;
}

function describe(name: string, { byteLength, pageKind, locked }: StoredBlob) {
  return { name, byteLength, pageKind, locked };
}

function notFound(name: string): Response {
  return new Response(`no blob named ${name}\n`, { status: 404 });
}

/** Out of room is the one failure a client can do something about, so it has its own answer. */
const FULL = new Set<string>([
  "ERR_HOLDFAST_LIMIT",
  "ERR_HOLDFAST_OUT_OF_MEMORY",
  "ERR_HOLDFAST_LOCK_LIMIT",
  "ERR_HOLDFAST_HUGE_UNAVAILABLE",
]);

export function failure(error: unknown): Response {
  if (error instanceof WrongLength) return new Response(`${error.message}\n`, { status: 400 });
  if (error instanceof HoldfastError && FULL.has(error.code)) {
    return new Response(`${error.message}\n`, { status: 507 });
  }
  // The client is gone: there is nobody to answer, and the upload has freed its lease.
  if (error instanceof DOMException && error.name === "AbortError") {
    return new Response(null, { status: 499 });
  }
  console.error(error);
  return new Response("internal error\n", { status: 500 });
}

function report(store: BlobStore) {
  return {
    store: store.stats(),
    pool: store.pool.stats(),
    process: stats(),
    rssBytes: process.memoryUsage.rss(),
    // Bun reports the highest resident size in KiB, as getrusage does on Linux.
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
  };
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "8080" },
      hostname: { type: "string", default: "127.0.0.1" },
      "limit-mib": { type: "string", default: "1024" },
      pages: { type: "string" },
      files: { type: "boolean", default: false },
      lock: { type: "string", default: "none" },
    },
  });
  const { url } = startServer({
    port: Number(values.port),
    hostname: values.hostname,
    limitBytes: Number(values["limit-mib"]) * 1024 ** 2,
    files: values.files,
    memory: values as Pick<AllocOptions, "pages" | "lock">,
  });
  console.log(`blob server on ${url}`);
}
