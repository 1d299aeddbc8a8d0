/** The few names of cli-progress that the demo uses; the package brings no types of its own. */
declare module "cli-progress" {
  interface Options {
    format?: string;
    hideCursor?: boolean;
  }
  class SingleBar {
    constructor(options: Options, preset?: object);
    start(total: number, value: number, payload?: object): void;
    increment(step: number, payload?: object): void;
    stop(): void;
  }
  const progress: { SingleBar: typeof SingleBar; Presets: { shades_classic: object } };
  export { SingleBar };
  export default progress;
}
