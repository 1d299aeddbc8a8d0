/** The demo's side of the blob server: starts one as a child process and speaks its HTTP. */
import { join } from "node:path";

/** The parts of `GET /stats` and of the answer to a `PUT` that the demo looks at. */
export interface ServerReport {
  store: { blobs: number; bytes: number; uploads: number };
  pool: { allocatedBytes: number; activeBytes: number; lockedBytes: number; liveHandles: number };
  rssBytes: number;
  peakRssBytes: number;
}
export interface BlobReport {
  byteLength: number;
  pageKind: string;
  locked: boolean;
}

export class Client implements AsyncDisposable {
  readonly #url: string;
  readonly #server: Bun.Subprocess<"ignore", "pipe", "inherit">;

  private constructor(url: string, server: Bun.Subprocess<"ignore", "pipe", "inherit">) {
    this.#url = url;
    this.#server = server;
  }

  /** Starts a server on a free port, so that its resident memory is its own and nobody else's. */
  static async startServer(args: string[]): Promise<Client> {
    const script = join(import.meta.dir, "server.ts");
    const server = Bun.spawn([process.execPath, script, "--port", "0", ...args], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
    });
    let greeting = "";
    for await (const text of server.stdout.pipeThrough(new TextDecoderStream())) {
      greeting += text;
      if (greeting.includes("\n")) break;
    }
    const url = /http:\S+/.exec(greeting)?.[0];
    if (!url) throw new Error(`the server did not start: ${greeting || "it printed nothing"}`);
    return new Client(url, server);
  }

  async put(name: string, body: Bun.BunFile): Promise<BlobReport> {
    return (await this.#request("PUT", `blobs/${name}`, body)).json() as Promise<BlobReport>;
  }

  async get(name: string): Promise<ReadableStream<Uint8Array>> {
    const { body } = await this.#request("GET", `blobs/${name}`);
    return body ?? new ReadableStream({ start: (controller) => controller.close() });
  }

  async delete(name: string): Promise<void> {
    await this.#request("DELETE", `blobs/${name}`);
  }

  async stats(): Promise<ServerReport> {
    return (await this.#request("GET", "stats")).json() as Promise<ServerReport>;
  }

  async trim(): Promise<void> {
    await (await this.#request("POST", "trim")).text();
  }

  async #request(method: string, path: string, body?: Bun.BunFile): Promise<Response> {
    const response = await fetch(this.#url + path, { method, body });
    if (response.ok) return response;
    throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.kill();
    await this.#server.exited;
  }
}
