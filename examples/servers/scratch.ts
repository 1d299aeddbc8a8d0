/**
 * Scratch memory per request for `Bun.serve`: what a handler leases is freed when its response has
 * been sent, when it throws, and when the client leaves, and not a moment earlier.
 *
 *     fetch: withScratch(pool, async (request, scratch) => { ... })
 *
 * A client that leaves ends the leases while the handler may still run: its next `bytes` throws
 * `ERR_HOLDFAST_FREED`, its old views are empty, and I/O in flight finishes in memory that nobody
 * else gets meanwhile. So an abandoned request costs no memory and can harm nobody.
 */
import type { AllocOptions, Handle, LargePool } from "holdfast";

/** What a socket is given at once: large enough to keep it busy, small enough to be no burden. */
const chunkBytes = 256 * 1024;

export class Scratch {
  readonly #pool: LargePool;
  readonly #leases = new Set<Handle>();
  #sending = 0;
  #ended = false;

  constructor(pool: LargePool) {
    this.#pool = pool;
  }

  /** Memory with undefined contents that lives as long as the request. */
  alloc(byteLength: number, options?: AllocOptions): Handle {
    if (this.#ended) throw new Error("the request is over");
    const lease = this.#pool.allocUnsafe(byteLength, options);
    this.#leases.add(lease);
    return lease;
  }

  /**
   * A body that sends a lease without copying it. A chunk is asked for only when the one before it
   * has been written, so the end of the last one is when nothing needs the lease any more.
   */
  send(lease: Handle, byteLength: number = lease.byteLength): ReadableStream<Uint8Array> {
    let offset = 0;
    let open = true;
    this.#sending += 1;
    const close = () => {
      if (!open) return;
      open = false;
      this.#sending -= 1;
      if (this.#ended) this.end();
    };
    return new ReadableStream<Uint8Array>(
      {
        pull: (controller) => {
          const length = Math.min(chunkBytes, byteLength - offset);
          if (length > 0) {
            controller.enqueue(lease.view(Uint8Array, offset, length));
            offset += length;
          } else {
            close();
            controller.close();
          }
        },
        cancel: close,
      },
      { highWaterMark: 0 },
    );
  }

  /** No more leases; those there are end now, or when the last body that sends one has ended. */
  end(): void {
    this.#ended = true;
    if (this.#sending === 0) this.abandon();
  }

  /** Nobody wants the answer: all leases end at once. */
  abandon(): void {
    this.#ended = true;
    for (const lease of this.#leases) lease[Symbol.dispose]();
    this.#leases.clear();
  }
}

type Handler = (request: Request, scratch: Scratch) => Response | Promise<Response>;

/** A `fetch` or route handler that has scratch memory from `pool`. */
export function withScratch(pool: LargePool, handler: Handler) {
  return async (request: Request): Promise<Response> => {
    const scratch = new Scratch(pool);
    const abandon = () => scratch.abandon();
    request.signal.addEventListener("abort", abandon, { once: true });
    try {
      return await handler(request, scratch);
    } finally {
      // Bodies other than streams were copied when the response was made.
      scratch.end();
    }
  };
}
