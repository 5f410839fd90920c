"""Answer a prompt with the model in the folder beside this file, or serve it over HTTP.

    python run.py "Tell me one fact about volcanoes."
    python run.py --serve 8000

``POST /generate`` takes ``{"prompt": TEXT, "max_new_tokens": N}`` and gives ``{"text": ..., "prompt_tokens": ...,
"new_tokens": ...}``; ``GET /health`` says that the model is loaded. Prompts are answered one after the other. There is
no login and no encryption: what faces strangers needs a proxy in front.

Needs ONNX Runtime GenAI alone (requirements.txt); ``olivine export --package`` wrote it.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

#: Bytes of a request's body.
MAX_BODY_BYTES = 1_000_000
#: Prompts that may wait for the one that is being answered.
MAX_WAITING = 16
#: Seconds for which a client may send nothing.
SILENCE_S = 30
DEFAULT_NEW_TOKENS = 256


class Refused(Exception):
    """A request that can't be answered: its HTTP status, and why in a sentence."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Model:
    """A loaded ONNX Runtime GenAI folder."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime_genai as genai

        self._genai = genai
        self._model = genai.Model(str(folder))
        self._tokenizer = genai.Tokenizer(self._model)
        self._one = threading.Lock()
        config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
        self.longest = int(config["model"].get("context_length", 2048))
        self.templated = (folder / "chat_template.jinja").is_file()
        path = folder / "tokenizer_config.json"
        if not self.templated and path.is_file():
            self.templated = bool(json.loads(path.read_text(encoding="utf-8")).get("chat_template"))

    def answer(self, prompt: str, max_new_tokens: int) -> dict[str, Any]:
        """The answer, by the folder's own chat template and search options.

        Raises:
            Refused: when the prompt alone fills the model's context.
        """
        with self._one:
            tokens = self._tokenizer.encode(self._asked(prompt))
            if len(tokens) >= self.longest:
                raise Refused(400, f"the prompt has {len(tokens)} tokens; prompt and answer may have {self.longest}")
            params = self._genai.GeneratorParams(self._model)
            params.set_search_options(max_length=min(len(tokens) + max_new_tokens, self.longest))
            generator = self._genai.Generator(self._model, params)
            generator.append_tokens(tokens)
            while not generator.is_done():
                generator.generate_next_token()
            new = generator.get_sequence(0)[len(tokens) :]
            text = str(self._tokenizer.decode(new))
        return {"text": text, "prompt_tokens": len(tokens), "new_tokens": len(new)}

    def _asked(self, prompt: str) -> str:
        if not self.templated:
            return prompt
        messages = json.dumps([{"role": "user", "content": prompt}])
        try:
            return str(self._tokenizer.apply_chat_template(messages, add_generation_prompt=True))
        except RuntimeError as error:
            why = "ONNX Runtime GenAI's template engine can't render this model's chat template"
            raise Refused(500, f"{why}: {error}") from None


def parse_request(body: bytes) -> tuple[str, int]:
    """Prompt and most new tokens of a request's body.

    Raises:
        Refused: with what is wrong and what fits.
    """
    try:
        request = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refused(400, f'the body is no JSON; send {{"prompt": "...", "max_new_tokens": 64}}: {error}') from None
    if not isinstance(request, dict):
        raise Refused(400, f"the body is a JSON {type(request).__name__}; an object with a prompt is asked for")
    if unknown := sorted(set(request) - {"prompt", "max_new_tokens"}):
        raise Refused(400, f"unknown: {', '.join(unknown)[:200]}; prompt and max_new_tokens are known")
    prompt, count = request.get("prompt"), request.get("max_new_tokens", DEFAULT_NEW_TOKENS)
    if not isinstance(prompt, str) or not prompt.strip():
        raise Refused(400, "prompt has to be a text that is not empty")
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError:
        raise Refused(400, "prompt holds half a character (a lone surrogate)") from None
    if "\0" in prompt:
        raise Refused(400, "prompt holds a null character")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise Refused(400, "max_new_tokens has to be a whole number of at least 1")
    return prompt, count


class Server(ThreadingHTTPServer):
    """Serves one model; requests beyond those that may wait are refused at once."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], model: Model) -> None:
        super().__init__(address, Handler)
        self.model = model
        self._places = threading.BoundedSemaphore(MAX_WAITING + 1)

    def answer(self, prompt: str, max_new_tokens: int) -> dict[str, Any]:
        """The model's answer, in turn.

        Raises:
            Refused: when too many wait already, or by :meth:`Model.answer`.
        """
        if not self._places.acquire(blocking=False):
            raise Refused(503, f"{MAX_WAITING} prompts are waiting already; come again later")
        try:
            return self.model.answer(prompt, max_new_tokens)
        finally:
            self._places.release()


class Handler(BaseHTTPRequestHandler):
    """``GET /health`` and ``POST /generate``."""

    server: Server
    timeout = SILENCE_S
    ways: ClassVar = {"/health": "GET", "/generate": "POST"}

    def do_GET(self) -> None:
        """Tell that the server is ready."""
        if self._is_way("GET"):
            self._say(200, {"status": "ok", "context_tokens": self.server.model.longest})

    def do_POST(self) -> None:
        """An answer."""
        if not self._is_way("POST"):
            return
        try:
            answer = self.server.answer(*parse_request(self._body()))
        except Refused as error:
            self._say(error.status, {"error": str(error)})
        except RuntimeError as error:  # what ONNX Runtime GenAI raises, whatever the cause
            self.log_error("%s", error)
            self._say(500, {"error": f"the model failed: {error}"})
        else:
            self._say(200, answer)

    def _is_way(self, method: str) -> bool:
        way = self.ways.get(self.path.partition("?")[0])
        if way == method:
            return True
        if way is None:
            self._say(404, {"error": "there is GET /health and POST /generate"})
        else:
            self._say(405, {"error": f"{self.path} takes {way}"}, {"Allow": way})
        return False

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length")
        if length is None:
            raise Refused(411, "the request has no Content-Length; chunked bodies are not read")
        if not (length.isascii() and length.isdigit() and len(length) < 20):
            raise Refused(400, "Content-Length is no number")
        if int(length) > MAX_BODY_BYTES:
            raise Refused(413, f"the body has {length} bytes; at most {MAX_BODY_BYTES} are read")
        return self.rfile.read(int(length))

    def _say(self, status: int, answer: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(answer, ensure_ascii=False).encode("utf-8", errors="replace")
        self.close_connection = True
        try:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except ConnectionError:
            self.log_error("the client left before its answer")


def main(arguments: list[str] | None = None) -> int:
    """Answer one prompt, or serve until a signal ends it."""
    parser = argparse.ArgumentParser(description="Answer a prompt, or serve the model over HTTP.")
    parser.add_argument("prompt", nargs="?", help="what to answer")
    parser.add_argument("--max-new-tokens", type=int, default=DEFAULT_NEW_TOKENS)
    parser.add_argument("--model", type=Path, default=Path(__file__).resolve().parent / "model", metavar="DIR")
    parser.add_argument("--serve", type=int, metavar="PORT", help="serve HTTP on this port")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on; by default this machine alone")
    options = parser.parse_args(arguments)
    if (options.serve is None) == (options.prompt is None):
        parser.error("give a prompt, or --serve PORT")
    if options.serve is not None:
        return serve(Model(options.model), options.host, options.serve)
    try:
        prompt, count = parse_request(
            json.dumps({"prompt": options.prompt, "max_new_tokens": options.max_new_tokens}).encode("utf-8")
        )
        print(Model(options.model).answer(prompt, count)["text"])
    except Refused as error:
        parser.error(str(error))
    return 0


def serve(model: Model, host: str, port: int) -> int:
    """Serve until SIGINT or SIGTERM, which a container's first process has to ask for."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    with Server((host, port), model) as server:
        print(f"serving on http://{host}:{server.server_address[1]}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
