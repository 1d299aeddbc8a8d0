/**
 * Named blobs, each in one lease of a pool.
 *
 * A blob is written once, by the upload that made it, and is never changed afterwards: replacing a
 * name puts another blob in its place. Two rules keep every byte safe and none of it lost:
 *
 * - an upload owns its lease alone until its last byte is in, and frees it on every other way out
 *   (the client left, the body was not what it said, the pool is full);
 * - a published blob is freed when no name and no response refers to it any more.
 *
 * A stored blob that nobody reads has no ArrayBuffer. External ArrayBuffers count for the garbage
 * collector with their full length, so a store that kept one per blob would let ordinary garbage
 * grow to about the size of the store before it is collected.
 */
import type { AllocOptions, Handle, LargePool } from "holdfast";

/** One chunk of an answer: large enough to keep a socket busy, small enough to be no burden. */
const CHUNK_BYTES = 256 * 1024;

/** From here on a lease of a pool with `pages: "memfd"` is a file. */
const FILE_BYTES_MIN = 1024 ** 2;

/** The first lease of an upload that does not say how long it is. */
const UNKNOWN_LENGTH_BYTES = 256 * 1024;

/**
 * By how much such a lease grows when it is full. Regions grow in place up to their size class, so
 * small steps cost little, and a pool that is nearly full is not asked for twice what is needed.
 */
const GROWTH = 1.25;

/** The body had more or fewer bytes than its content-length said. */
export class WrongLength extends Error {
  constructor(declaredBytes: number, receivedBytes: number) {
    super(`content-length said ${declaredBytes} bytes, the body has ${receivedBytes}`);
  }
}

/** What `BlobStore` needs of a request body; `null` is a body of length 0. */
export type Body = AsyncIterable<Uint8Array> | null;

/**
 * Reads a whole body into a lease of its own. The lease is exactly as long as the body and has no
 * ArrayBuffer; if anything goes wrong on the way, it is freed and the error is thrown on.
 */
export async function receive(
  pool: LargePool,
  body: Body,
  declaredBytes: number | null,
  options: AllocOptions = {},
): Promise<Handle> {
  const handle = pool.allocUnsafe(declaredBytes ?? UNKNOWN_LENGTH_BYTES, options);
  try {
    let receivedBytes = 0;
    for await (const chunk of body ?? []) {
      const end = receivedBytes + chunk.byteLength;
      if (end > handle.byteLength) {
        if (declaredBytes !== null) throw new WrongLength(declaredBytes, end);
        handle.resize(Math.max(end, Math.ceil(GROWTH * handle.byteLength)));
      }
      handle.view(Uint8Array, receivedBytes, chunk.byteLength).set(chunk);
      discard(chunk);
      receivedBytes = end;
    }
    if (declaredBytes !== null && receivedBytes !== declaredBytes) {
      throw new WrongLength(declaredBytes, receivedBytes);
    }
    handle.resize(receivedBytes);
    return handle;
  } catch (error) {
    handle[Symbol.dispose]();
    throw error;
  }
}

/**
 * Lets go of a chunk that was copied. Waiting for the collector instead would keep most of a large
 * upload in memory twice: see "Memory" in README.md for the figures.
 */
function discard(chunk: Uint8Array): void {
  const { buffer } = chunk;
  if (buffer instanceof ArrayBuffer && chunk.byteLength === buffer.byteLength) buffer.transfer(0);
}

/** A published blob: its lease, and how many names and responses refer to it. */
export class StoredBlob {
  readonly byteLength: number;
  readonly pageKind: Handle["pageKind"];
  readonly locked: boolean;
  readonly #handle: Handle;
  readonly #isFile: boolean;
  #named = true;
  #readers = 0;

  constructor(handle: Handle, isFile: boolean) {
    this.#handle = handle;
    this.#isFile = isFile;
    this.byteLength = handle.byteLength;
    this.pageKind = handle.pageKind;
    this.locked = handle.locked;
  }

  /**
   * The blob as a response body: a copy when one chunk holds it, a file where the pool has files,
   * else a stream of views.
   */
  body(): Blob | ReadableStream<Uint8Array> | Uint8Array<ArrayBuffer> {
    if (this.byteLength <= CHUNK_BYTES) return this.#copy();
    return this.#isFile ? this.#file() : this.#stream();
  }

  /**
   * Bun opens the file when the handler has returned, after all that is due at once, which may be
   * another request that deletes this blob. From then on the response has its memory, whatever
   * becomes of the lease; so until then it is kept.
   */
  #file(): Blob {
    this.#readers++;
    setImmediate(() => {
      this.#readers--;
      this.#settle();
    });
    return this.#handle.file();
  }

  /** No name refers to this blob any more; responses that are under way still finish. */
  unname(): void {
    this.#named = false;
    this.#settle();
  }

  #copy(): Uint8Array<ArrayBuffer> {
    const copy = this.#handle.bytes.slice();
    this.#settle();
    return copy;
  }

  /**
   * Chunks are views of the lease, so nothing is copied before the socket takes it. With a
   * high-water mark of 0 a chunk is asked for only when the one before it has been written, so the
   * end of the last one is the moment when nothing needs the lease any more.
   */
  #stream(): ReadableStream<Uint8Array> {
    let offset = 0;
    let reading = true;
    this.#readers++;
    const leave = () => {
      if (!reading) return;
      reading = false;
      this.#readers--;
      this.#settle();
    };
    return new ReadableStream<Uint8Array>(
      {
        pull: (controller) => {
          const length = Math.min(CHUNK_BYTES, this.byteLength - offset);
          if (length === 0) {
            leave();
            return controller.close();
          }
          controller.enqueue(this.#handle.view(Uint8Array, offset, length));
          offset += length;
        },
        cancel: leave,
      },
      { highWaterMark: 0 },
    );
  }

  /** With no reader left: frees a blob without a name, and takes the ArrayBuffer off one with. */
  #settle(): void {
    if (this.#readers > 0 || this.#handle.freed) return;
    if (!this.#named) this.#handle.free();
    else this.#handle.resize(this.byteLength);
  }
}

/** What `BlobStore.put` answers: the new blob, and whether the name had another one before. */
export interface Stored {
  blob: StoredBlob;
  replaced: boolean;
}

export class BlobStore {
  readonly pool: LargePool;
  readonly #options: AllocOptions;
  readonly #hasFiles: boolean;
  readonly #blobs = new Map<string, StoredBlob>();
  #uploads = 0;
  #bytes = 0;

  /** `hasFiles`: the pool was made with `pages: "memfd"`. */
  constructor(pool: LargePool, options: AllocOptions = {}, hasFiles = false) {
    this.pool = pool;
    this.#options = options;
    this.#hasFiles = hasFiles;
  }

  /** Stores a body under a name; of several uploads of one name the last to finish stays. */
  async put(name: string, body: Body, declaredBytes: number | null): Promise<Stored> {
    this.#uploads++;
    try {
      const handle = await receive(this.pool, body, declaredBytes, this.#options);
      const blob = new StoredBlob(handle, this.#hasFiles && handle.byteLength >= FILE_BYTES_MIN);
      const replaced = this.delete(name);
      this.#blobs.set(name, blob);
      this.#bytes += blob.byteLength;
      return { blob, replaced };
    } finally {
      this.#uploads--;
    }
  }

  get(name: string): StoredBlob | undefined {
    return this.#blobs.get(name);
  }

  delete(name: string): boolean {
    const blob = this.#blobs.get(name);
    if (!blob) return false;
    this.#blobs.delete(name);
    this.#bytes -= blob.byteLength;
    blob.unname();
    return true;
  }

  clear(): void {
    for (const name of this.#blobs.keys()) this.delete(name);
  }

  stats(): { blobs: number; bytes: number; uploads: number } {
    return { blobs: this.#blobs.size, bytes: this.#bytes, uploads: this.#uploads };
  }
}
