# make demo: the whole method on drawn scenes. make test: every test but the long ones.
PYTHON ?= python3.11
VENV := .venv
RUN ?= runs/demo

.PHONY: install demo test test-long lint
install: $(VENV)/installed

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip
	$(VENV)/bin/pip install --quiet -r requirements.txt
	touch $@

demo: install
	$(VENV)/bin/python -m data_prep.make_demo --demo_root=runs/demo_devkit
	$(VENV)/bin/python -m aepsl_tf.pipeline --flagfile=flags/demo.flags \
	  --run_dir=$(RUN) --voc_root=runs/demo_devkit

test: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m pytest -m "not long"

test-long: install
	$(VENV)/bin/python -m pytest -m long

lint: install
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
