/**
 * A vector search over HTTP. The matrix lies outside the JavaScript heap, on huge pages where the
 * kernel has them, and is shared out to Workers without a copy: the main thread fills one lease per
 * Worker with rows and hands each over by its token; from then on a Worker owns its rows alone.
 *
 *     POST /search?k=5   body: one vector as 32-bit floats     the nearest rows as JSON
 *
 * A matrix on the JavaScript heap would be copied to each Worker, or need a SharedArrayBuffer, which
 * has neither huge pages nor a lock in RAM nor an end that one can order.
 */
import { type Handle, LargePool } from "holdfast";
import type { Found, Order } from "./vector_worker.ts";

export interface VectorServerOptions {
  rows: number;
  dimensions: number;
  workers: number;
  /** Writes row `index` into `row`. */
  fill(row: Float32Array<ArrayBuffer>, index: number): void;
}

export interface VectorServer extends AsyncDisposable {
  url: URL;
  /** What the kernel gave for each Worker's rows, once they were filled. */
  pageKinds: Handle["pageKind"][];
}

/** One Worker and the questions that it has not answered yet. */
class Shard {
  readonly #worker = new Worker(new URL("./vector_worker.ts", import.meta.url).href);
  readonly #waiting: ((found: Found[]) => void)[] = [];

  constructor(order: Order) {
    this.#worker.onmessage = ({ data }) => this.#waiting.shift()?.(data);
    this.#worker.postMessage(order);
  }

  search(query: Float32Array, count: number): Promise<Found[]> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#worker.postMessage({ query, count } satisfies Order);
    });
  }

  end(): Promise<unknown> {
    const ended = new Promise((resolve) => this.#worker.addEventListener("close", resolve));
    this.#worker.terminate();
    return ended;
  }
}

export function serveVectors(options: VectorServerOptions): VectorServer {
  const { rows, dimensions, workers, fill } = options;
  const pool = new LargePool({ pages: "thp" });
  const pageKinds: Handle["pageKind"][] = [];
  const shards: Shard[] = [];
  const perShard = Math.ceil(rows / workers);

  for (let first = 0; first < rows; first += perShard) {
    const count = Math.min(perShard, rows - first);
    const lease = pool.allocUnsafe(count * dimensions * 4, { prefault: true });
    const matrix = lease.view(Float32Array);
    for (let row = 0; row < count; row++) {
      fill(matrix.subarray(row * dimensions, (row + 1) * dimensions), first + row);
    }
    pageKinds.push(lease.pageKind);
    // Not a byte is copied: the token is two numbers, and `matrix` is empty from here on.
    shards.push(new Shard({ token: lease.transfer(), first, dimensions }));
  }

  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    routes: {
      "/search": {
        POST: async (request) => {
          const body = await request.arrayBuffer();
          if (body.byteLength !== 4 * dimensions) {
            return new Response(`a vector has ${dimensions} floats\n`, { status: 400 });
          }
          const query = new Float32Array(body);
          const count = Number(new URL(request.url).searchParams.get("k") ?? 5);
          const found = await Promise.all(shards.map((shard) => shard.search(query, count)));
          const nearest = found.flat().sort((one, other) => other.score - one.score);
          return Response.json(nearest.slice(0, count));
        },
      },
    },
    fetch: () => new Response("unknown path\n", { status: 404 }),
  });

  return {
    url: server.url,
    pageKinds,
    async [Symbol.asyncDispose]() {
      await server.stop(true);
      await Promise.all(shards.map((shard) => shard.end()));
      pool.close({ force: true });
    },
  };
}
