// One of B9's servers, by name: it prints its address and collects its garbage on SIGUSR2.
//
//     holdfast   examples/blob-server
//     map        bodies as `await request.bytes()` in a Map
//     discard    bodies are read and dropped, downloads answered from one shared buffer: the floor

import { startServer } from "../../examples/blob-server/server.ts";

const [kind = "", bodyBytes = "0"] = process.argv.slice(2);
process.on("SIGUSR2", () => Bun.gc(true));

function inMap() {
  const blobs = new Map<string, Uint8Array<ArrayBuffer>>();
  return {
    async put(name: string, request: Request) {
      blobs.set(name, new Uint8Array(await request.arrayBuffer()));
    },
    get: (name: string) => blobs.get(name),
    delete: (name: string) => blobs.delete(name),
  };
}

function discarding() {
  const body = new Uint8Array(Number(bodyBytes));
  return {
    async put(_name: string, request: Request) {
      for await (const chunk of request.body ?? []) void chunk;
    },
    get: (_name: string) => body,
    delete: (_name: string) => true,
  };
}

function serve(store: ReturnType<typeof inMap> | ReturnType<typeof discarding>): URL {
  return Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    routes: {
      "/blobs/:name": {
        PUT: async (request) => {
          await store.put(request.params.name, request);
          return new Response(null, { status: 201 });
        },
        GET: (request) => new Response(store.get(request.params.name) ?? null),
        DELETE: (request) => {
          store.delete(request.params.name);
          return new Response(null, { status: 204 });
        },
      },
    },
  }).url;
}

const started: Record<string, () => URL> = {
  holdfast: () => startServer().url,
  map: () => serve(inMap()),
  discard: () => serve(discarding()),
};
const start = started[kind];
if (!start) throw new Error(`no server named ${kind}`);
console.log(String(start()));
