/**
 * Chromium for tests that need a browser: Debian's package, driven by playwright-core, which brings
 * none of its own. A machine without it skips what needs it.
 */
import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

const paths = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Where the browser is; undefined if there is none. `HOLDFAST_CHROMIUM` comes first. */
export function chromiumPath(): string | undefined {
  const named = process.env.HOLDFAST_CHROMIUM;
  return named || paths.find((path) => existsSync(path));
}

/** Starts it without a window. Throws if it does not start. */
export function launchChromium(executablePath: string): Promise<Browser> {
  // In a container there is no sandbox to be had, and no shared memory worth the name.
  const args = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"];
  return chromium.launch({ executablePath, args, timeout: 60_000 });
}
