/** Serves the page: `bun examples/csv-wasm/serve.ts`, then open what it prints. */
import { buildModule, buildPage } from "./build.ts";

const html = `<!doctype html><meta charset="utf-8"><title>csv-wasm</title>
<body style="white-space: pre; font-family: monospace">working…
<script type="module" src="page.js"></script>`;

/** A server on a free port; `stop()` ends it. */
export async function serve(): Promise<Bun.Server<undefined>> {
  const [module, script] = [await buildModule(), await buildPage()];
  const answer = (body: string | Uint8Array<ArrayBuffer>, type: string) =>
    new Response(body, { headers: { "content-type": type } });
  return Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    routes: {
      "/": () => answer(html, "text/html"),
      "/page.js": () => answer(script, "text/javascript"),
      "/csv.wasm": () => answer(module, "application/wasm"),
    },
  });
}

if (import.meta.main) console.log(`open ${(await serve()).url}`);
