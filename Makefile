# make demo: the whole method on drawn scenes; make tensorboard: the curves of RUN. make test: every
# test but the long ones and Beam's, which test-long and test-scale run. make bench-check
# DEVKIT=VOC2012 ONNX=u2netp.onnx: six and a half minutes, and an error where a ratio is 15% worse than
# docs/benchmarks.md has it; it wants PyTorch (pip install torch==2.13.0).
PYTHON ?= python3.11
VENV := .venv
SCALE := .venv-scale
RUN ?= runs/demo

.PHONY: install demo tensorboard bench-check test test-long test-scale lint
install: $(VENV)/installed

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip
	$(VENV)/bin/pip install --quiet -r requirements.txt
	touch $@

# Apache Beam admits neither the pillow nor the protobuf of $(VENV). Its environment lies over that
# one and finds there what it does not hold itself: as if both files were installed, one after the
# other, for a sixth of the disk.
$(SCALE)/installed: $(VENV)/installed requirements-scale.txt
	$(PYTHON) -m venv --clear $(SCALE) || python3 -m venv --clear $(SCALE)
	echo $(abspath $(VENV))/lib/python3.11/site-packages > \
	  $(SCALE)/lib/python3.11/site-packages/under.pth
	$(SCALE)/bin/pip install --quiet -r requirements-scale.txt
	touch $@

demo: install
	$(VENV)/bin/python -m data_prep.make_demo --demo_root=runs/demo_devkit
	$(VENV)/bin/python -m aepsl_tf.pipeline --flagfile=flags/demo.flags \
	  --run_dir=$(RUN) --voc_root=runs/demo_devkit

tensorboard: install
	$(VENV)/bin/python -c 'import aepsl_tf, tensorboard.main as t; t.run_main()' \
	  --logdir $(RUN)/tensorboard

bench-check:
	@test -n "$(DEVKIT)" || { echo "give DEVKIT=VOC2012, a devkit of photographs"; exit 1; }
	$(MAKE) install
	$(VENV)/bin/python -m benchmarks.run --devkit=$(DEVKIT) --onnx_model=$(ONNX) --check

test: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m pytest

test-long: install
	$(VENV)/bin/python -m pytest -m long

test-scale: $(SCALE)/installed
	$(SCALE)/bin/python -m pytest -m scale

lint: install
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
