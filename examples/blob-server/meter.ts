/** Counts one phase of the demo: bytes, time, latencies, and a progress bar on a terminal. */
import type { SingleBar } from "cli-progress";

/** On a pipe there is no bar and the package is not loaded: it is a development dependency. */
const progress = process.stderr.isTTY ? (await import("cli-progress")).default : null;

export class Meter {
  readonly #label: string;
  readonly #milliseconds: number[] = [];
  readonly #bar: SingleBar | undefined;
  readonly #start = performance.now();
  #bytes = 0;
  #elapsed = 0;

  constructor(label: string, files: number, totalBytes: number) {
    this.#label = label;
    if (!progress) return;
    const format = `${label.padEnd(18)} {bar} {percentage} %  {done} of ${files} files`;
    this.#bar = new progress.SingleBar(
      { format, hideCursor: true },
      progress.Presets.shades_classic,
    );
    this.#bar.start(totalBytes, 0, { done: 0 });
  }

  add(bytes: number, milliseconds: number): void {
    this.#bytes += bytes;
    this.#milliseconds.push(milliseconds);
    this.#bar?.increment(bytes, { done: this.#milliseconds.length });
  }

  stop(): void {
    this.#elapsed = performance.now() - this.#start;
    this.#milliseconds.sort((a, b) => a - b);
    this.#bar?.stop();
  }

  summary(): string {
    const seconds = this.#elapsed / 1000;
    return [
      this.#label.padEnd(18),
      `${this.#milliseconds.length} files, ${this.#bytes} bytes in ${seconds.toFixed(2)} s`,
      `${(this.#bytes / 1e9 / seconds).toFixed(2)} GB/s`,
      `p50 ${this.#percentile(0.5)} ms`,
      `p99 ${this.#percentile(0.99)} ms`,
    ].join("  ");
  }

  /** The smallest latency that at least this share of the requests did not exceed. */
  #percentile(share: number): string {
    const index = Math.max(0, Math.ceil(share * this.#milliseconds.length) - 1);
    return (this.#milliseconds[index] ?? 0).toFixed(2);
  }
}
