# Two commands do everything: `make demo` and `make test`. The others are for people who change olivine.
PYTHON ?= python3
BIN := .venv/bin
DEMO := results/demo-run

.PHONY: demo install test test-cuda check typecheck bench bench-study bench-front bench-transforms bench-recover bench-search search-table bench-workers bench-olive bench-aa bench-estimators bench-detection bench-placement bench-unlike bench-twice bench-early-stop bench-coverage bench-parity peers bench-peers bench-peers-model bench-unseen-text bench-scenarios chaos same-bytes fuzz schema recipes reference clean

demo: .venv/.runtime  ## install, fetch the demo model and text, run a short real study, export, say where to look
	$(BIN)/olivine run configs/demo.yaml --out $(DEMO)
	$(BIN)/olivine chat $(DEMO)/best --prompt "Tell me one fact about volcanoes." --max-new-tokens 48

install: .venv/.development  ## everything that development needs, in .venv

.venv/bin/python:
	$(PYTHON) -m venv .venv

# The constraints pin exact versions; of torch the one that has a CPU build, where an open range may bring CUDA's.
.venv/.runtime: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/.development: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@ .venv/.runtime

test: .venv/.development  ## all tests; those that need a browser say so and skip where there is none
	$(BIN)/python -m pytest

test-cuda: .venv/.development  ## every check that needs an NVIDIA GPU, with its figures
	$(BIN)/python -m pytest -m cuda -s tests/test_cuda.py

envs/openvino: .venv/.development  ## an environment for the execution provider OpenVINO
	$(BIN)/olivine provider add openvino

check: .venv/.development typecheck  ## style, imports, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# mypy and pyright know no package-dir mapping: a folder of links shows them the installed layout.
typecheck: .venv/.development
	mkdir -p build/typing/olivine
	for package in search passes evaluators; do ln -sfn "$(CURDIR)/$$package" build/typing/olivine/$$package; done
	cd build/typing && "$(CURDIR)/$(BIN)/mypy" --config-file "$(CURDIR)/pyproject.toml" -p olivine

bench: .venv/.development  ## speed and memory as ratios measured side by side, into results/benchmarks.md
	$(BIN)/python tests/benchmarks/bench.py --to results/benchmarks.md

bench-study: .venv/.development  ## candidates decided in ten minutes from a cold start, into results/study-rate.md
	$(BIN)/python tests/benchmarks/study_rate.py --to results/study-rate.md

bench-front: .venv/.development  ## what mixed formats gain over one for all layers at equal bytes, into results/front.md
	$(BIN)/python tests/benchmarks/front.py --to results/front.md

bench-scenarios: .venv/.development  ## memory, speed and loss of recipes in each ready scenario, into results/scenarios.md
	$(BIN)/python tests/benchmarks/scenarios.py --to results/scenarios.md

bench-transforms: .venv/.development  ## what smoothing, Hadamard transforms and AWQ's scales promise, into results/transforms.md
	$(BIN)/python tests/benchmarks/transforms.py --to results/transforms.md

bench-imports: .venv/.development  ## checkpoints that are quantized already, each format beside its float reference and our own int4, into results/imports.md
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/imports.py --to results/imports.md

bench-recover: .venv/.development  ## whether a short LoRA on the errors of int4 weights pays, into results/recover.md
	$(BIN)/python tests/benchmarks/recover.py --to results/recover.md

bench-search: .venv/.development  ## samplers replayed on a space that was measured as a whole, into results/search/README.md
	$(BIN)/python tests/benchmarks/search.py --to results/search/README.md

search-table: .venv/.development  ## that space, measured: half an hour
	$(BIN)/python tests/benchmarks/search_table.py results/search-run --to results/search/table.csv

bench-workers: .venv/.development  ## what more workers bring, and what the storage costs, into results/workers.md
	$(BIN)/python tests/benchmarks/workers.py --to results/workers.md

envs/olive/.installed: tests/benchmarks/olive.txt
	$(PYTHON) -m venv envs/olive
	envs/olive/bin/python -m pip install --quiet --disable-pip-version-check -r tests/benchmarks/olive.txt
	touch $@

bench-olive: .venv/.development envs/olive/.installed  ## candidates that Olive's search measures in ten minutes, beside ours, into results/olive.md and study-rate.md
	$(BIN)/python tests/benchmarks/olive.py --to results/olive.md --study-to results/study-rate.md

# Campaigns of timings run in slices of this many seconds; each adds to build/campaigns and to results/numbers.md.
SLICE ?= 600
bench-aa: .venv/.development  ## a model against its own copy: whether intervals hold 1, into results/numbers.md
	$(BIN)/python tests/benchmarks/repeatability.py --seconds $(SLICE)

bench-estimators: .venv/.development  ## the error of each estimator, and the luck of processes, from the runs of bench-aa
	$(BIN)/python tests/benchmarks/estimators.py

bench-detection: .venv/.development  ## models with 1, 2 and 4 layers more: whether they are called slower
	$(BIN)/python tests/benchmarks/detection.py --seconds $(SLICE)

# Of model folders that you name: make bench-unlike BASE=float FOLDERS="int4 int8"
bench-placement: .venv/.development  ## how times depend on where the host runs the cores
	$(BIN)/python tests/benchmarks/placement.py $(BASE) $(firstword $(FOLDERS))

bench-unlike: .venv/.development  ## models that are unlike, again and again: what measurements minutes apart differ by
	$(BIN)/python tests/benchmarks/unlike.py $(BASE) $(FOLDERS) --seconds $(SLICE)

STUDIES ?= results/first results/second
bench-twice: .venv/.development  ## whether what these studies reported is found again by bench and eval
	$(BIN)/python tests/benchmarks/twice.py $(STUDIES)

bench-early-stop: .venv/.development  ## what stopping early saves on recorded windows, and how often it is wrong
	$(BIN)/python tests/benchmarks/early_stop.py

bench-coverage: .venv/.development  ## whether every interval covers, in simulations with known truth
	$(BIN)/python tests/benchmarks/intervals.py

bench-parity: .venv/.development  ## tiny models of every architecture and GGUF type against transformers, into results/parity.md
	$(BIN)/python tests/benchmarks/parity.py --to results/parity.md

envs/peers/.installed: tests/benchmarks/peers/requirements.txt tests/benchmarks/peers/llama.txt
	$(PYTHON) -m venv envs/peers/python
	envs/peers/python/bin/python -m pip install --quiet --disable-pip-version-check -r tests/benchmarks/peers/requirements.txt
	envs/peers/python/bin/python -m pip uninstall --quiet --yes torchvision
	envs/peers/python/bin/python tests/benchmarks/peers/build_llama.py "$$(cat tests/benchmarks/peers/llama.txt)" --to envs/peers/llama.cpp
	touch $@

peers: envs/peers/.installed  ## llama.cpp and OpenVINO in envs/peers, for 'olivine optimize --peers'

build/peers-qwen3/config.json: .venv/.development
	PYTHONPATH=tests/benchmarks $(BIN)/python -m peers.train_qwen3 --to $(@D)

bench-peers-model: build/peers-qwen3/config.json  ## train the second model of bench-peers: a Qwen3 of 31M weights, half an hour; goes on where it was ended

# PEERS has more options, such as other models: PEERS="--model Mine=path/to/checkpoint".
PEERS ?= --model SmolLM2-135M=demo:smollm2-135m-instruct --model Qwen3-31M=build/peers-qwen3
bench-peers: .venv/.development envs/peers/.installed bench-peers-model  ## beside llama.cpp and OpenVINO: size, speed and loss of the same models, into results/peers.md
	PYTHONPATH=tests/benchmarks $(BIN)/python -m peers.bench --to results/peers.md $(PEERS)

# Of the studies of two models, say: make bench-unseen-text STUDIES="results/smollm2 results/qwen3"
bench-unseen-text: .venv/.development  ## whether the loss that these studies reported holds on a kind of text that nothing has seen, into results/unseen-text.md
	$(BIN)/python tests/benchmarks/unseen_text.py $(STUDIES) --to results/unseen-text.md

chaos: .venv/.development  ## 200 kills over the lives of studies, and memory limits, into results/reliability.md
	$(BIN)/python tests/reliability/memory.py
	$(BIN)/python tests/reliability/chaos.py --kills 200; code=$$?; $(BIN)/python tests/reliability/page.py; exit $$code

# Another checkout's: make same-bytes OLD=../olivine-0.1.0/.venv/bin/olivine
same-bytes: .venv/.development  ## whether another version builds the same files of the demo model and MiniLM
	$(BIN)/python tests/reliability/same_bytes.py $(OLD) $(BIN)/olivine

RUNS ?= 100000
fuzz: .venv/.development  ## this many inputs for each reader of files from strangers, into results/reliability.md
	for reader in yaml gguf safetensors external; do $(BIN)/python tests/fuzz/fuzz.py $$reader --runs $(RUNS) || exit 1; done
	$(BIN)/python tests/reliability/page.py

schema: .venv/.development  ## the JSON schemas of study files, for editors, and of the answers of --json
	$(BIN)/python -m olivine.search.config.schema
	$(BIN)/python -m olivine.search.answers.catalog

recipes: .venv/.development  ## every ready recipe on a tiny random checkpoint of its architecture, into results/recipes.md
	$(BIN)/python tests/benchmarks/tiny_recipes.py --to results/recipes.md

reference: .venv/.runtime  ## the reference result that the README quotes: the demo's study, longer, on windows of 512 tokens
	$(BIN)/olivine run configs/demo.yaml --trials 40 --timeout 1h --set evaluation.window_tokens=512 \
		--set confirm.members=14 --set confirm.race=90s --out results/demo-reference
	mkdir -p results/demo
	cp results/demo-reference/front.csv results/demo-reference/environment.json results/demo-reference/selection.json results/demo/
	$(BIN)/olivine report results/demo-reference --picture results/demo/front.svg

clean:  ## what can be made again, but not results
	rm -rf build .venv *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
