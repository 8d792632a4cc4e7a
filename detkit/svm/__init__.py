"""R-CNN's SVMs and box regressors."""
