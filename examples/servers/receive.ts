/**
 * Receive buffers for sockets: what arrives in pieces is put together in one lease per connection,
 * off the JavaScript heap, and read where it lies.
 *
 * Bun hands each piece over in a buffer of its own, so one copy is needed; what is spared is the
 * second one that joins the pieces, and the garbage of the joined messages.
 */
import { type Handle, HoldfastError, type LargePool } from "holdfast";

const startBytes = 64 * 1024;

export class ReceiveBuffer implements Disposable {
  readonly #lease: Handle;
  readonly #limitBytes: number;
  #start = 0;
  #end = 0;

  /** A connection never holds more than `limitBytes`. */
  constructor(pool: LargePool, limitBytes: number) {
    this.#lease = pool.allocUnsafe(Math.min(startBytes, limitBytes));
    this.#limitBytes = limitBytes;
  }

  /** Bytes that have arrived and were not taken. */
  get length(): number {
    return this.#end - this.#start;
  }

  /** Adds a piece; false if the connection would hold more than its limit. */
  append(piece: Uint8Array): boolean {
    const needed = this.length + piece.byteLength;
    if (needed > this.#limitBytes) return false;
    const lease = this.#lease;
    if (this.#end + piece.byteLength > lease.byteLength) {
      lease.bytes.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
      if (needed > lease.byteLength) {
        lease.resize(Math.min(this.#limitBytes, Math.max(needed, 2 * lease.byteLength)));
      }
    }
    lease.bytes.set(piece, this.#end);
    this.#end += piece.byteLength;
    return true;
  }

  /** The next bytes, where they lie: good until the next call of `append` or `take`. */
  peek(byteLength: number): Uint8Array<ArrayBuffer> | undefined {
    if (byteLength > this.length) return undefined;
    return this.#lease.bytes.subarray(this.#start, this.#start + byteLength);
  }

  /** The next bytes are done with. */
  take(byteLength: number): void {
    this.#start += Math.min(byteLength, this.length);
    if (this.#start === this.#end) this.#start = this.#end = 0;
  }

  [Symbol.dispose](): void {
    this.#lease[Symbol.dispose]();
  }
}

/** Length of a frame's head, which is the length of what follows as a 32-bit number. */
const headBytes = 4;

export interface FrameServerOptions {
  pool: LargePool;
  /** The longest frame; a connection that sends a longer one is closed. */
  frameBytesMax: number;
  /** The answer to one frame. What it gets is good only during the call. */
  answer(frame: Uint8Array<ArrayBuffer>): string;
}

/** A TCP server of frames: four bytes of length, big end first, then as many bytes. */
export function listenFrames({ pool, frameBytesMax, answer }: FrameServerOptions) {
  return Bun.listen<{ buffer: ReceiveBuffer }>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(socket) {
        socket.data = { buffer: new ReceiveBuffer(pool, headBytes + frameBytesMax) };
      },
      data(socket, piece) {
        const { buffer } = socket.data;
        // A piece may hold many frames, so it goes in by parts that the buffer has room for.
        for (let from = 0; from < piece.byteLength; ) {
          const part = piece.subarray(from, from + headBytes + frameBytesMax - buffer.length);
          if (part.byteLength === 0 || !buffer.append(part)) return socket.terminate();
          from += part.byteLength;
          for (let frame = nextFrame(buffer); frame; frame = nextFrame(buffer)) {
            socket.write(`${answer(frame)}\n`);
            buffer.take(headBytes + frame.byteLength);
          }
        }
      },
      close: ({ data }) => data?.buffer[Symbol.dispose](),
      error: (socket) => void socket.terminate(),
    },
  });
}

function nextFrame(buffer: ReceiveBuffer): Uint8Array<ArrayBuffer> | undefined {
  const head = buffer.peek(headBytes);
  if (!head) return undefined;
  const length = new DataView(head.buffer, head.byteOffset).getUint32(0);
  return buffer.peek(headBytes + length)?.subarray(headBytes);
}

export interface UploadServerOptions {
  pool: LargePool;
  uploadBytesMax: number;
  /** The answer to a whole upload. What it gets is good only during the call. */
  answer(upload: Uint8Array<ArrayBuffer>): string;
}

/** A WebSocket server: binary messages are the pieces of an upload, the text "done" ends it. */
export function serveUploads({ pool, uploadBytesMax, answer }: UploadServerOptions) {
  return Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request, server) {
      try {
        const buffer = new ReceiveBuffer(pool, uploadBytesMax);
        if (server.upgrade(request, { data: { buffer } })) return;
        buffer[Symbol.dispose]();
        return new Response("this is a WebSocket server\n", { status: 426 });
      } catch (error) {
        // The pool is full: the client can come back later, and nothing else is disturbed.
        if (!(error instanceof HoldfastError)) throw error;
        return new Response(`${error.message}\n`, { status: 503 });
      }
    },
    websocket: {
      data: {} as { buffer: ReceiveBuffer },
      message(socket, message) {
        const { buffer } = socket.data;
        if (typeof message !== "string") {
          if (!buffer.append(message)) socket.close(1009, "longer than is taken here");
        } else if (message === "done") {
          const { length } = buffer;
          socket.send(answer(buffer.peek(length)!));
          buffer.take(length);
        }
      },
      close: ({ data }) => data.buffer[Symbol.dispose](),
    },
  });
}
