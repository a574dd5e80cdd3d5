# Every target sets up what it needs. PYTHON, STACK (onedl, openmmlab) and VENV can be given: STACK=openmmlab make test
PYTHON ?= python3
STACK ?= onedl
VENV ?= $(if $(filter onedl,$(STACK)),.venv,.venv-$(STACK))
RUN = $(VENV)/bin/python

.PHONY: help setup test demo lint clean

help:
	@echo 'make demo    pretrain, then classify, detect and segment, on built-in data; DEMO=quick is the short form'
	@echo 'make test    run the tests; ARGS="-k masking" chooses among them'
	@echo 'make lint    check the style'
	@echo 'make setup   only make the environment that the others use ($(VENV))'
	@echo 'make clean   delete that environment'

setup:
	@command -v $(PYTHON) >/dev/null || \
		{ echo 'set-up: no $(PYTHON) on the PATH: install Python 3.10-3.12, or name yours: PYTHON=python3.12 make'; exit 1; }
	@$(PYTHON) tools/setup_env.py --stack $(STACK) --venv $(VENV) $(if $(filter file,$(origin PYTHON)),--keep-python)

test: setup
	$(RUN) -m pytest -rs -n auto --maxprocesses 4 --dist loadfile $(ARGS)

demo: setup
	$(RUN) tools/demo.py $(if $(filter quick,$(DEMO)),--quick) $(ARGS)

lint: setup
	$(RUN) -m ruff check .

clean:
	rm -rf $(VENV)
